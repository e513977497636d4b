#!lua
-- Makes a large run visible, whose parts were staged before under names of their own.
-- KEYS: hash, states, plan and literals of the run | staged hash, plan and literals | on one Redis also: runs
--       submissions, and the hash of the run to which a segment belongs
-- ARGV: id and incarnation, m, states (empty: within m's hash), fields of the staged hash, bytes of the staged plan, whether
--       to list it, fields of the staged literals
local hash, states, plan, literals, staged_hash, staged_plan, staged_literals = unpack(KEYS, 1, 7)
local function drop(answer)
  redis.call('UNLINK', staged_hash, staged_plan, staged_literals)
  return answer
end
if KEYS[10] then
  local m = redis.call('HGET', KEYS[10], 'm')
  if not m or incarnation_of(m) ~= string.sub(ARGV[1], 17) then return drop('GONE') end
end
if redis.call('EXISTS', hash) == 1 then return drop('EXISTING') end
if redis.call('HLEN', staged_hash) ~= tonumber(ARGV[4]) or redis.call('STRLEN', staged_plan) ~= tonumber(ARGV[5])
  or redis.call('HLEN', staged_literals) ~= tonumber(ARGV[7]) then
  return drop('EXPIRED')
end
if KEYS[8] then
  redis.call('ZCARD', KEYS[8])
  -- First, since it may be refused: then nothing else is written.
  redis.call('XADD', KEYS[9], '*', 's', ARGV[1])
end
-- What is left of a run whose hash somebody removed by hand is not ours.
redis.call('UNLINK', states, plan, literals)
if ARGV[7] ~= '0' then
  redis.call('RENAME', staged_literals, literals)
  redis.call('PERSIST', literals)
end
if ARGV[4] ~= '0' then
  redis.call('RENAME', staged_hash, hash)
  redis.call('PERSIST', hash)
end
redis.call('RENAME', staged_plan, plan)
redis.call('PERSIST', plan)
if ARGV[3] ~= '' then redis.call('SET', states, ARGV[3]) end
redis.call('HSET', hash, 'm', ARGV[2])
if KEYS[8] then
  if ARGV[6] == '1' then redis.call('ZADD', KEYS[8], 0, ARGV[1]) end
  redis.pcall('PUBLISH', KEYS[9], '')
end
return 'ACCEPTED'
