#!lua
-- Makes a run visible: all of it or nothing. Large parts were staged before under names of their own.
-- KEYS: meta plan st graph counts attempts out closed | staged plan, graph, counts | events owing
-- ARGV: run, incarnation, nodes, open, owed, left, node states, bytes of the plan, fields of graph, fields of counts,
--       plan (empty when staged), then the fields and values of graph and of counts (nothing when staged)
local run, owed, st, plan = ARGV[1], tonumber(ARGV[5]), ARGV[7], ARGV[11]
local sizes = { tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]) }
local staged = { KEYS[9], KEYS[10], KEYS[11] }

if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('UNLINK', staged[1], staged[2], staged[3])
  return 'EXISTING'
end
redis.call('ZCARD', KEYS[13])
if redis.call('EXISTS', KEYS[12]) == 1 then redis.call('XLEN', KEYS[12]) end
if plan == '' then
  if redis.call('STRLEN', staged[1]) ~= sizes[1] or redis.call('HLEN', staged[2]) ~= sizes[2]
    or redis.call('HLEN', staged[3]) ~= sizes[3] then
    redis.call('UNLINK', staged[1], staged[2], staged[3])
    return 'EXPIRED'
  end
end

-- What is left of a run whose meta somebody removed by hand is not ours.
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])
if plan == '' then
  for i, key in ipairs({ KEYS[2], KEYS[4], KEYS[5] }) do
    if sizes[i] > 0 then
      redis.call('RENAME', staged[i], key)
      redis.call('PERSIST', key)
    end
  end
else
  redis.call('SET', KEYS[2], plan)
  for i = 0, sizes[2] + sizes[3] - 1 do
    local key = i < sizes[2] and KEYS[4] or KEYS[5]
    redis.call('HSET', key, ARGV[12 + 2 * i], ARGV[13 + 2 * i])
  end
end
if st ~= '' then redis.call('SET', KEYS[3], st) end
redis.call('HSET', KEYS[1], 'format', 1, 'id', ARGV[2], 'nodes', ARGV[3], 'parts', sizes[2], 'open', ARGV[4],
  'owed', owed, 'left', ARGV[6], 'version', 1, 'done', 0, 'expected', ARGV[#ARGV])
redis.call('ZADD', KEYS[14], 0, run)
if owed > 0 then redis.call('ZADD', KEYS[13], redis.call('TIME')[1], run) end
redis.call('XADD', KEYS[12], '*', 's', run)
redis.pcall('PUBLISH', KEYS[12], '')
return 'ACCEPTED'
