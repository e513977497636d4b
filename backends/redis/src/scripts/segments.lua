#!lua flags=no-writes
-- The meta, the mark and some segments of a run, as they were at one moment.
-- KEYS: hash and segments of the run    ARGV: cursor, about how many
local page, stored = redis.call('HSCAN', KEYS[2], ARGV[1], 'COUNT', ARGV[2]), redis.call('HMGET', KEYS[1], 'm', 'f')
return { stored[1], stored[2], page[1], page[2] }
