#!lua
-- Takes up entries of one line whose leases have passed: to the head of the line, or, after too many deliveries, out
-- of it with a report. Consumers that hold nothing and were not heard of for long are removed.
-- KEYS: stream leases again reports    ARGV: group, channel of the reports' hints, deliveries at most (0: any number),
-- slice, the report's outcome up to its last four bytes, which are the number of deliveries; the idle time in ms that
-- is long
local stream, leases, again, reports = unpack(KEYS)
local group, deliveries_max, slice = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('XLEN', stream)
redis.call('LLEN', again)
redis.call('XLEN', reports)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local passed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, slice)) do
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  passed[#passed + 1] = { tonumber(ms), tonumber(seq), id }
end
table.sort(passed, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)

local redelivered, lost = 0, 0
-- Backwards, so that the oldest is at the head.
for i = #passed, 1, -1 do
  local id = passed[i][3]
  redis.call('ZREM', leases, id)
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if pending.err or not pending[1] then
    -- The group was made anew: the entry comes as a new one.
  elseif not entry then
    redis.call('XACK', stream, group, id)
  elseif deliveries_max == 0 or pending[1][4] < deliveries_max then
    redis.call('XCLAIM', stream, group, '-', 0, id, 'JUSTID')
    redis.call('LPUSH', again, id)
    redelivered = redelivered + 1
  else
    -- A message starts with the task id and the attempt; so does a report.
    local report = string.sub(entry[2][2], 1, 20) .. ARGV[5] .. struct.pack('>I4', pending[1][4])
    redis.call('XADD', reports, '*', 'c', report)
    redis.call('XACK', stream, group, id)
    redis.call('XDEL', stream, id)
    lost = lost + 1
  end
end

-- An entry that is held without a lease and waits nowhere: only keys removed by hand leave such.
local held = redis.pcall('XPENDING', stream, group, 'IDLE', ARGV[6], '-', '+', 100)
for _, entry in ipairs(held.err and {} or held) do
  local id = entry[1]
  if not redis.call('ZSCORE', leases, id) and not redis.call('LPOS', again, id) then
    redis.call('XCLAIM', stream, group, '-', 0, id, 'JUSTID')
    redis.call('LPUSH', again, id)
    redelivered = redelivered + 1
  end
end
if redelivered > 0 then redis.pcall('PUBLISH', stream, '') end
if lost > 0 then redis.pcall('PUBLISH', ARGV[2], '') end

local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
for _, consumer in ipairs(consumers.err and {} or consumers) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  if about.pending == 0 and about.idle > tonumber(ARGV[6]) then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, about.name)
  end
end
return { redelivered, lost, #passed }
