#!lua flags=allow-oom
-- Removes all that a run owns; with 'ended' only when nothing of it is left to do.
-- KEYS: hash, states and plan of the run    ARGV: 'ended' or 'any', channel of its hints, what is hinted
local m = redis.call('HGET', KEYS[1], 'm')
if ARGV[1] == 'ended' and m and struct.unpack('>I4', m, 6) > 0 then return 0 end
redis.call('UNLINK', unpack(KEYS))
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return m and 1 or 0
