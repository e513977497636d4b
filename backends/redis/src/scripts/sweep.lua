#!lua flags=allow-oom
-- Takes up entries of one line whose leases have passed: to the head of the line, or, after too many deliveries, out
-- of it with a report. Consumers that hold nothing and were not heard of for long are removed.
-- KEYS: stream again reports    ARGV: group, channel of the reports' hints, deliveries at most (0: any number), slice,
-- the report's outcome up to its last four bytes, which are the number of deliveries; the idle time in ms that is long
local stream, again, reports = unpack(KEYS)
local group, deliveries_max, slice, long = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
redis.call('XLEN', stream)
redis.call('LLEN', again)
redis.call('XLEN', reports)
-- There is no group yet, or none any more: then nobody holds anything.
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
local passed, astray = {}, {}
for _, consumer in ipairs(consumers.err and {} or consumers) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  local name = about.name
  if about.pending == 0 then
    if about.idle > long then redis.call('XGROUP', 'DELCONSUMER', stream, group, name) end
  elseif name == '-' then
    -- An entry that nobody holds and that waits nowhere: only keys removed by hand leave such.
    for _, entry in ipairs(redis.call('XPENDING', stream, group, 'IDLE', long, '-', '+', 100, name)) do
      if not redis.call('LPOS', again, entry[1]) then astray[#astray + 1] = entry[1] end
    end
  elseif #passed < slice then
    local lease, room = string.match(name, '#(%d+)$') or ARGV[6], slice - #passed
    for _, entry in ipairs(redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', room, name)) do
      local ms, seq = string.match(entry[1], '^(%d+)-(%d+)$')
      passed[#passed + 1] = { tonumber(ms), tonumber(seq), entry[1], entry[4] }
    end
  end
end
table.sort(passed, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
local redelivered, lost = #astray, 0
for _, id in ipairs(astray) do redis.call('LPUSH', again, id) end
-- Backwards, so that the oldest is at the head.
for i = #passed, 1, -1 do
  local id, deliveries = passed[i][3], passed[i][4]
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if not entry then
    redis.call('XACK', stream, group, id)
  elseif deliveries_max == 0 or deliveries < deliveries_max then
    redis.call('XCLAIM', stream, group, '-', 0, id, 'JUSTID')
    redis.call('LPUSH', again, id)
    redelivered = redelivered + 1
  else
    local report = string.sub(entry[2][2], 1, HEAD) .. ARGV[5] .. struct.pack('>I4', deliveries)
    redis.call('XADD', reports, '*', 'c', report)
    redis.call('XACK', stream, group, id)
    redis.call('XDEL', stream, id)
    lost = lost + 1
  end
end
if redelivered > 0 then redis.pcall('PUBLISH', channel_of(stream), '') end
if lost > 0 then redis.pcall('PUBLISH', ARGV[2], '') end
return { redelivered, lost, #passed }
