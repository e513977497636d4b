#!lua flags=allow-oom
-- Queues released leaves and notes that they are dispatched; leaves out what is not in the outbox (any
-- more).
-- KEYS: hash and states of the run, then, to queue, stream, delayed and expiring of each queue, and the
--       index of timers
-- ARGV: 'queue', or 'look' (which are in the outbox) and 'mark' (note only) where the queues are kept
--       elsewhere; the run's incarnation; leaves as node, attempt, place of its queue, time as 0 1 2, ms,
--       when it expires in ms, one after the other; their messages
-- Returns how many leaves were in the outbox, or what is wrong with a queue when all else is done; to look, their places, and the time in ms after them.
local WINDOW = 16384
local hash, states, mode, leaves = KEYS[1], KEYS[2], ARGV[1], cmsgpack.unpack(ARGV[3])
local stored = redis.call('HMGET', hash, 'm', 's')
local m, inline = stored[1], stored[2]
local nothing = mode == 'look' and {} or 0
if not m then return nothing end
if wrong_format(m) then return redis.error_reply(wrong_format(m)) end
local meta = { struct.unpack(META, m) }
local nodes, retried = meta[2], meta[9]
-- Composed for a run that was forgotten, and whose id another one has now.
if meta[13] ~= ARGV[2] then return nothing end
if (inline and #inline or redis.call('STRLEN', states)) ~= nodes then
  return redis.error_reply('CORRUPT the node states of the run are not whole')
end
local timers = mode == 'queue' and KEYS[#KEYS]
if timers then redis.call('ZCARD', timers) end
-- What goes to a queue that is broken stays in the outbox, and holds up no other.
local broken, why
for i = 3, #KEYS - 1, 3 do
  for place, look in ipairs({ 'XLEN', 'ZCARD', 'ZCARD' }) do
    local size = redis.pcall(look, KEYS[i + place - 1])
    if type(size) == 'table' then
      broken = broken or {}
      broken[i], why = true, size.err .. ' (' .. KEYS[i + place - 1] .. ')'
    end
  end
end

local chunk, base = inline, 1
if not inline then
  local low, high = math.huge, 0
  for i = 1, #leaves, 6 do
    low, high = math.min(low, leaves[i]), math.max(high, leaves[i])
  end
  chunk, base = '', low
  if high >= low and high - low < WINDOW then chunk = redis.call('GETRANGE', states, low - 1, high - 1) end
end
local RELEASED = 82
local function is_released(node)
  local place = node - base + 1
  if place >= 1 and place <= #chunk then return string.byte(chunk, place) == RELEASED end
  return not inline and redis.call('GETRANGE', states, node - 1, node - 1) == 'R'
end

-- They come in order as a rule; one that comes twice counts once.
local nodes_now, places, used, last = {}, {}, {}, 0
local function is_new(node)
  for _, known in ipairs(nodes_now) do
    if known == node then return false end
  end
  return true
end
for i = 1, #leaves, 6 do
  local node, attempt = leaves[i], leaves[i + 1]
  if not (broken and broken[3 * leaves[i + 2]]) and is_released(node) and (node > last or is_new(node))
    and attempt == (retried > 0 and tonumber(redis.call('HGET', hash, 'a' .. node) or 1) or 1) then
    local place, n = (i + 5) / 6, #nodes_now + 1
    nodes_now[n], last = node, math.max(node, last)
    if mode == 'queue' then
      local queue, kind, ms, expires = 3 * leaves[i + 2], leaves[i + 3], leaves[i + 4], leaves[i + 5]
      local message, is_queued = ARGV[3 + place], true
      if kind > 0 or expires > 0 then
        is_queued = put(KEYS[queue], KEYS[queue + 1], KEYS[queue + 2], message, kind, ms, expires)
      else
        redis.call('XADD', KEYS[queue], '*', 'm', message)
      end
      if is_queued then used[queue] = (used[queue] or 0) + 1 end
    elseif mode == 'look' then
      places[n] = place
    end
  end
end
if mode == 'look' then
  local time = redis.call('TIME')
  places[#places + 1] = time[1] * 1000 + math.floor(time[2] / 1000)
  return places
end
local found = #nodes_now
local answer = why and redis.error_reply(why) or found
if found == 0 then return answer end

table.sort(nodes_now)
local i, text, from = 1, {}, 1
while i <= #nodes_now do
  local first = i
  while nodes_now[i + 1] == nodes_now[i] + 1 do i = i + 1 end
  local part = string.rep('D', i - first + 1)
  if inline then
    text[#text + 1] = string.sub(inline, from, nodes_now[first] - 1)
    text[#text + 1] = part
    from = nodes_now[first] + #part
  else
    redis.call('SETRANGE', states, nodes_now[first] - 1, part)
  end
  i = i + 1
end
meta[4] = meta[4] - found
local fields = { 'm', struct.pack(META, unpack(meta, 1, 13)) }
if inline then
  text[#text + 1] = string.sub(inline, from)
  fields[3], fields[4] = 's', table.concat(text)
end
redis.call('HSET', hash, unpack(fields))
for stream, at in pairs(first_timers) do redis.call('ZADD', timers, 'LT', at, stream) end
for queue, count in pairs(used) do wake(KEYS[queue], count) end
return answer
