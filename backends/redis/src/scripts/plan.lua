#!lua flags=no-writes
-- The meta of a run, and its plan when it is small, else how long it is, as they were at one moment: else they might be of
-- two runs that had the id one after the other.
-- KEYS: hash and plan of the run
local stored = redis.call('HMGET', KEYS[1], 'm', 'p')
return { stored[1], stored[2], stored[2] and 0 or redis.call('STRLEN', KEYS[2]) }
