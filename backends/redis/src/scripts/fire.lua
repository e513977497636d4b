#!lua flags=allow-oom
-- Queues the leaves whose time has come, and reports as expired those that have not begun in time.
-- KEYS: stream, delayed, expiring and reports of each queue
-- ARGV: slice, the channel of the reports' hints, the outcome of what has expired
-- Returns after how many ms the next timer is due; -1 when there is none.
local slice, expired = tonumber(ARGV[1]), false
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local next
for i = 1, #KEYS, 4 do
  local stream, delayed, expiring, reports = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, slice)
  for _, message in ipairs(due) do redis.call('XADD', stream, '*', 'm', message) end
  if #due > 0 then
    redis.call('ZREM', delayed, unpack(due))
    redis.pcall('PUBLISH', channel_of(stream), '')
  end
  local over = redis.call('ZRANGEBYSCORE', expiring, '-inf', now, 'LIMIT', 0, slice)
  -- They are heads of messages; a report starts with the same.
  for _, head in ipairs(over) do redis.call('XADD', reports, '*', 'c', head .. ARGV[3]) end
  if #over > 0 then
    redis.call('ZREM', expiring, unpack(over))
    expired = true
  end
  for _, timers in ipairs({ delayed, expiring }) do
    local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
    if first[2] then next = math.min(next or math.huge, tonumber(first[2])) end
  end
end
if expired then redis.pcall('PUBLISH', ARGV[2], '') end
return next and math.max(next - now, 0) or -1
