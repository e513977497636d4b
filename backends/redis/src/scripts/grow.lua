#!lua flags=allow-oom
-- Notes a segment at the outermost run, unless the run would have too many nodes with it.
-- KEYS: hash and segments of the run    ARGV: the segment's id in bytes, its nodes, how many nodes there may be in all,
-- the run's incarnation
-- Returns 1 when it is noted, now or before, 0 when there is no room, -1 when there is no such run.
local m = redis.call('HGET', KEYS[1], 'm')
if not m then return -1 end
if wrong_format(m) then return redis.error_reply(wrong_format(m)) end
if incarnation_of(m) ~= ARGV[4] then return -1 end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 1 end
local nodes = tonumber(redis.call('HGET', KEYS[2], 'n') or struct.unpack('>I4', m, 2)) + tonumber(ARGV[2])
if nodes > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2], 'n', nodes)
return 1
