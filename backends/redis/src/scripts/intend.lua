#!lua
-- Notes on a Cluster that a run is about to be stored in its own slot, so that it is announced even when its client
-- dies right afterwards.
-- KEYS: runs intents    ARGV: id and incarnation    Returns the time in ms.
redis.call('ZCARD', KEYS[2])
redis.call('ZADD', KEYS[1], 0, ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now, ARGV[1])
return now
