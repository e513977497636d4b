#!lua flags=allow-oom
-- Removes all that a run owns; with 'ended' only when nothing of it is left to do, and unless it is 'all' only when it
-- has no segments, which are kept elsewhere and go first.
-- KEYS: hash, states, plan and segments of the run
-- ARGV: 'ended', 'any' or 'all', channel of its hints, what is hinted, its incarnation
-- Returns whether it was there; 2 when nothing was done because of its segments.
local m = redis.call('HGET', KEYS[1], 'm')
if m and wrong_format(m) then return redis.error_reply(wrong_format(m)) end
-- Another run has its id.
if m and incarnation_of(m) ~= ARGV[4] then return 0 end
if ARGV[1] == 'ended' and m and struct.unpack('>I4', m, 6) > 0 then return 0 end
if ARGV[1] ~= 'all' and redis.call('EXISTS', KEYS[4]) == 1 then return 2 end
redis.call('UNLINK', unpack(KEYS))
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return m and 1 or 0
