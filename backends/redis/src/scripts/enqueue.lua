#!lua flags=allow-oom
-- Queues leaves of one queue, or sets their timers.
-- KEYS: stream, delayed and expiring
-- ARGV: the channel of the hints at timers, then for each leaf its message, time as 0 1 2, ms, when it expires in ms
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
local queued = false
for i = 2, #ARGV, 4 do
  queued = put(KEYS[1], KEYS[2], KEYS[3], ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]))
    or queued
end
for stream in pairs(first_timers) do redis.pcall('PUBLISH', ARGV[1], 't' .. stream) end
if queued then redis.pcall('PUBLISH', channel_of(KEYS[1]), '') end
return 0
