#!lua flags=allow-oom
-- Removes all that a run owns.
-- KEYS: meta plan st graph counts attempts out closed owing runs    ARGV: run, channel of its hints
local known = redis.call('EXISTS', KEYS[1])
redis.call('UNLINK', unpack(KEYS, 1, 8))
redis.call('ZREM', KEYS[9], ARGV[1])
redis.call('ZREM', KEYS[10], ARGV[1])
redis.pcall('PUBLISH', ARGV[2], '')
return known
