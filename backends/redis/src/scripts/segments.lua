#!lua flags=no-writes
-- The meta and some segments of a run, as they were at one moment.
-- KEYS: hash and segments of the run    ARGV: cursor, about how many
local page = redis.call('HSCAN', KEYS[2], ARGV[1], 'COUNT', ARGV[2])
return { redis.call('HGET', KEYS[1], 'm'), page[1], page[2] }
