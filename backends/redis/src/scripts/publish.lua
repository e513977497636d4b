#!lua
-- Makes a large run visible, whose parts were staged before under names of their own.
-- KEYS: hash, states and plan of the run | staged hash and plan | on one Redis also: runs submissions
-- ARGV: id and incarnation, m, states (empty: within m's hash), fields of the staged hash, bytes of the staged plan, whether
--       to list it
local hash, states, plan, staged_hash, staged_plan = unpack(KEYS, 1, 5)
local function drop(answer)
  redis.call('UNLINK', staged_hash, staged_plan)
  return answer
end
if redis.call('EXISTS', hash) == 1 then return drop('EXISTING') end
if redis.call('HLEN', staged_hash) ~= tonumber(ARGV[4]) or redis.call('STRLEN', staged_plan) ~= tonumber(ARGV[5]) then
  return drop('EXPIRED')
end
if KEYS[6] then redis.call('ZCARD', KEYS[6]) end
-- What is left of a run whose hash somebody removed by hand is not ours.
redis.call('UNLINK', states, plan)
if ARGV[4] ~= '0' then
  redis.call('RENAME', staged_hash, hash)
  redis.call('PERSIST', hash)
end
redis.call('RENAME', staged_plan, plan)
redis.call('PERSIST', plan)
if ARGV[3] ~= '' then redis.call('SET', states, ARGV[3]) end
redis.call('HSET', hash, 'm', ARGV[2])
if KEYS[6] then
  if ARGV[6] == '1' then redis.call('ZADD', KEYS[6], 0, ARGV[1]) end
  redis.call('XADD', KEYS[7], '*', 's', ARGV[1])
  redis.pcall('PUBLISH', KEYS[7], '')
end
return 'ACCEPTED'
