#!lua flags=no-writes
-- The meta and the node states of a run, as they were at one moment. (A Redis that is full refuses a
-- transaction that reads.)
-- KEYS: hash and states of the run
local stored = redis.call('HMGET', KEYS[1], 'm', 's')
return { stored[1], stored[2] or redis.call('GET', KEYS[2]) }
