#!lua flags=no-writes
-- The time of the server that a key is with, in ms.
-- KEYS: the key
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
