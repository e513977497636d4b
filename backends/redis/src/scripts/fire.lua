#!lua flags=allow-oom
-- Queues the leaves whose time has come, and reports as expired those that have not begun in
-- time.
-- KEYS: stream, delayed, expiring and reports of each queue | on one server also the indexes of reports
--       and of timers
-- ARGV: slice, the channel of the reports' hints, the outcome of what has expired
-- Returns after how many ms the next timer is due, -1 when there is none; then, of each queue that is broken,
-- its place and what is wrong. It holds up no other.
local slice = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local next, hints = nil, {}
local count = math.floor(#KEYS / 4)
local report_index, timer_index = KEYS[4 * count + 1], KEYS[4 * count + 2]
if report_index then
  redis.call('ZCARD', report_index)
  redis.call('ZCARD', timer_index)
end
local function fire(i)
  local stream, delayed, expiring, reports = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, slice)
  for _, message in ipairs(due) do redis.call('XADD', stream, '*', 'm', message) end
  if #due > 0 then
    redis.call('ZREM', delayed, unpack(due))
    if timer_index then wake(stream, #due) else redis.pcall('PUBLISH', channel_of(stream), '') end
  end
  local over = redis.call('ZRANGEBYSCORE', expiring, '-inf', now, 'LIMIT', 0, slice)
  -- They are heads of messages; a report starts with the same.
  for _, head in ipairs(over) do redis.call('XADD', reports, '*', 'c', head .. ARGV[3]) end
  if #over > 0 then
    redis.call('ZREM', expiring, unpack(over))
    hints[#hints + 1] = 'r' .. reports
    if report_index then redis.call('ZADD', report_index, 0, reports) end
  end
  local first_here
  for _, timers in ipairs({ delayed, expiring }) do
    local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
    if first[2] then first_here = math.min(first_here or math.huge, tonumber(first[2])) end
  end
  if first_here then next = math.min(next or math.huge, first_here) end
  if timer_index and first_here then
    redis.call('ZADD', timer_index, first_here, stream)
  elseif timer_index then
    redis.call('ZREM', timer_index, stream)
  end
end
local broken = {}
for i = 1, 4 * count, 4 do
  local ok, why = pcall(fire, i)
  if not ok then
    broken[#broken + 1] = (i + 3) / 4
    broken[#broken + 1] = type(why) == 'table' and why.err or tostring(why)
    -- The sweep looks at it again.
    if timer_index then redis.call('ZREM', timer_index, KEYS[i]) end
  end
end
if #hints > 0 then redis.pcall('PUBLISH', ARGV[2], table.concat(hints, '\n')) end
return { next and math.max(next - now, 0) or -1, unpack(broken) }
