#!lua flags=no-writes
-- The meta and the plan of a run, as they were at one moment: else they might be of two runs that had the id one after the other.
-- KEYS: hash and plan of the run
local stored = redis.call('HMGET', KEYS[1], 'm', 'p')
return { stored[1], stored[2] or redis.call('GET', KEYS[2]) }
