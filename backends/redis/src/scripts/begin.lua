#!lua flags=allow-oom
-- A leaf that expires begins, or not: then its time is over.
-- KEYS: expiring    ARGV: the head of the message, when it expires in ms
local time = redis.call('TIME')
redis.call('ZREM', KEYS[1], ARGV[1])
return time[1] * 1000 + math.floor(time[2] / 1000) < tonumber(ARGV[2]) and 1 or 0
