#!lua flags=allow-oom
-- Removes all that a run owns; with 'ended' only when nothing of it is left to do, and unless it is 'all' only when it
-- has no segments, which are kept elsewhere and go first.
-- KEYS: hash, states, plan, segments, literals and texts of the run
-- ARGV: 'ended', 'any' or 'all', channel of its hints, what is hinted, its incarnation, what the keys of its texts start
--       with, slice
-- Returns whether it was there; 2 when nothing was done because of its segments, 3 when there are more texts to remove.
local m = redis.call('HGET', KEYS[1], 'm')
if m and wrong_format(m) then return redis.error_reply(wrong_format(m)) end
-- Another run has its id.
if m and incarnation_of(m) ~= ARGV[4] then return 0 end
if ARGV[1] == 'ended' and m and struct.unpack('>I4', m, 6) > 0 then return 0 end
if ARGV[1] ~= 'all' and redis.call('EXISTS', KEYS[4]) == 1 then return 2 end
-- In the run's slot, as all its keys are. The run itself goes last: who dies in between leaves it to the next time.
local texts = redis.call('SPOP', KEYS[6], ARGV[6])
for _, name in ipairs(texts) do redis.call('UNLINK', ARGV[5] .. name) end
if #texts == tonumber(ARGV[6]) then return 3 end
redis.call('UNLINK', unpack(KEYS))
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return m and 1 or 0
