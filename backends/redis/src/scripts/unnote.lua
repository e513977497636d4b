#!lua flags=allow-oom
-- Takes the name of a queue off the lists on a Cluster, where its keys are gone, unless it was noted again
-- meanwhile.
-- KEYS: names lanes    ARGV: name, when it was noted, what its lanes are called
local noted = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not noted or tonumber(noted) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
if #ARGV > 2 then redis.call('SREM', KEYS[2], unpack(ARGV, 3)) end
return 1
