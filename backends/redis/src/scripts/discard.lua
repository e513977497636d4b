#!lua flags=allow-oom
-- Removes a text that was kept for a leaf, unless the leaf's outcome names it.
-- KEYS: hash of the run, the text, the names of the run's texts
-- ARGV: field of the leaf's outcome, the name as it stands in an outcome, the name
local outcome = redis.call('HGET', KEYS[1], ARGV[1])
if outcome and string.find(outcome, ARGV[2], 1, true) then return 0 end
redis.call('UNLINK', KEYS[2])
redis.call('SREM', KEYS[3], ARGV[3])
return 1
