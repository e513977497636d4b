#!lua
-- Queues released leaves and notes that they are dispatched; leaves out what is not in the outbox (any more).
-- KEYS: meta st attempts owing queues, then the stream of each queue
-- ARGV: run, leaves (flat: node, attempt, place of its queue), names of the queues, then the message of each leaf
local meta_key, st, attempts, owing, queues = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local meta = redis.call('HMGET', meta_key, 'format', 'nodes', 'owed')
if not meta[1] then return 0 end
if meta[1] ~= '1' then
  return redis.error_reply('CORRUPT the run has format ' .. meta[1] .. ', this program knows format 1')
end
if redis.call('STRLEN', st) ~= tonumber(meta[2]) then
  return redis.error_reply('CORRUPT the node states of the run are not whole')
end
local has_attempts = redis.call('HLEN', attempts) > 0
redis.call('ZCARD', owing)
redis.call('SCARD', queues)
for i = 6, #KEYS do redis.call('XLEN', KEYS[i]) end

local run, leaves, names = ARGV[1], cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
local stem = string.sub(run, 1, 28)
local queued, used = 0, {}
for i = 1, #leaves / 3 do
  local node, attempt, queue = leaves[3 * i - 2], leaves[3 * i - 1], leaves[3 * i]
  if redis.call('GETRANGE', st, node - 1, node - 1) == 'R'
    and attempt == (has_attempts and tonumber(redis.call('HGET', attempts, node) or 1) or 1) then
    redis.call('SETRANGE', st, node - 1, 'D')
    redis.call('XADD', KEYS[5 + queue], '*', 't', stem .. string.format('%08x', node), 'a', attempt, 'm', ARGV[3 + i])
    queued = queued + 1
    used[queue] = true
  end
end
if queued > 0 then
  local owed = redis.call('HINCRBY', meta_key, 'owed', -queued)
  if owed <= 0 then redis.call('ZREM', owing, run) end
  for queue in pairs(used) do
    redis.call('SADD', queues, names[queue])
    redis.pcall('PUBLISH', KEYS[5 + queue], '')
  end
end
return queued
