#!lua flags=allow-oom
-- Queues leaves of one queue, or sets their timers; but not those of runs that are gone, and none when it is too late.
-- KEYS: stream, delayed, expiring and gone of the queue
-- ARGV: the channel of the hints at timers, the latest time in ms, then for each leaf its message, time as 0 1 2, ms, when it expires in ms
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[2]) then
  return redis.error_reply('TRYAGAIN queueing took too long')
end
local gone, queued = redis.call('EXISTS', KEYS[4]) == 1, false
for i = 3, #ARGV, 4 do
  if not gone or not redis.call('ZSCORE', KEYS[4], run_of(ARGV[i])) then
    local kind, ms, expires = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    queued = put(KEYS[1], KEYS[2], KEYS[3], ARGV[i], kind, ms, expires) or queued
  end
end
for stream in pairs(first_timers) do redis.pcall('PUBLISH', ARGV[1], 't' .. stream) end
if queued then redis.pcall('PUBLISH', channel_of(KEYS[1]), '') end
return 0
