#!lua flags=allow-oom
-- Puts leaves in the outbox again that were queued, and are in no queue any more.
-- KEYS: hash and states of the run    ARGV: the run's incarnation, node and attempt of each
-- Returns for each 1 when it is in the outbox now, 2 when it runs once at most and had begun, 0 when it has
-- moved on.
local hash, states, answers = KEYS[1], KEYS[2], {}
for i = 2, #ARGV, 2 do answers[i / 2] = 0 end
local stored = redis.call('HMGET', hash, 'm', 's')
local m, inline = stored[1], stored[2]
if not m or wrong_format(m) or incarnation_of(m) ~= ARGV[1] then return answers end
local meta, back = { struct.unpack(META, m) }, 0
for i = 2, #ARGV, 2 do
  local node, attempt = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local state = inline and string.sub(inline, node, node) or redis.call('GETRANGE', states, node - 1, node - 1)
  local current = meta[9] > 0 and tonumber(redis.call('HGET', hash, 'a' .. node) or 1) or 1
  if state == 'D' and current == attempt then
    local begun = redis.call('HGET', hash, 'b' .. node)
    if begun and struct.unpack('>I4', begun) >= attempt then
      answers[i / 2] = 2
    else
      answers[i / 2], back = 1, back + 1
      if inline then
        inline = string.sub(inline, 1, node - 1) .. 'R' .. string.sub(inline, node + 1)
      else
        redis.call('SETRANGE', states, node - 1, 'R')
      end
    end
  end
end
if back > 0 then
  -- Owed, and another version.
  meta[4], meta[11] = meta[4] + back, meta[11] + 1
  redis.call('HSET', hash, 'm', struct.pack(META, unpack(meta, 1, 13)))
  if inline then redis.call('HSET', hash, 's', inline) end
end
return answers
