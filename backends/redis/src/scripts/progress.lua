#!lua flags=allow-oom
-- Notes how far leaves of a run are, unless there is no such run.
-- KEYS: hash of the run    ARGV: channel of its hints, what is hinted, fields and values
if redis.call('HEXISTS', KEYS[1], 'm') == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.pcall('PUBLISH', ARGV[1], ARGV[2])
return 1
