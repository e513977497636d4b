#!lua
-- KEYS: any
-- Returns the time of the server that has it.
return redis.call('TIME')
