#!lua flags=allow-oom
-- Queues leaves of one queue, or sets their timers.
-- KEYS: stream, delayed and expiring    ARGV: for each leaf its message, time as 0 1 2, ms, when it expires in ms
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
local queued = false
for i = 1, #ARGV, 4 do
  queued = put(KEYS[1], KEYS[2], KEYS[3], ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]))
    or queued
end
if queued then redis.pcall('PUBLISH', channel_of(KEYS[1]), '') end
return 0
