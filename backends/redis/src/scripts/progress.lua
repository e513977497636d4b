#!lua flags=allow-oom
-- Notes how far leaves of a run are, unless there is no such run.
-- KEYS: hash of the run    ARGV: channel of its hints, its id and incarnation, fields and values
local m = redis.call('HGET', KEYS[1], 'm')
if not m or incarnation_of(m) ~= string.sub(ARGV[2], 17) then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.pcall('PUBLISH', ARGV[1], string.sub(ARGV[2], 1, 16))
return 1
