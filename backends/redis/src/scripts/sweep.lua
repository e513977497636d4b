#!lua flags=allow-oom
-- Takes up entries of one line whose leases have passed: leaves come again, suspects and events wait apart,
-- and after too many deliveries they go out of the line with a report.
-- KEYS: stream, again, apart, reports; of a queue, what it was told of runs that are gone: their leaves
--       are dropped
-- ARGV: group, channel of the reports' hints, deliveries at most (0: any number), slice, the report's
--       outcome up to its last four bytes, which are the number of deliveries; when this was asked for in ms
--       and by how many ms it may be late; from where on to look, one slice of entries after the other
--       (empty: only at those whose time is over); then consumers, each with the idle time in ms after which
--       its leases have passed
-- Returns how many go on, how many were given up, how many of either, and where to look next ('' when there
-- is no more); or -1 when it is late: then nobody knows whether owners could renew meanwhile.
local stream, again, apart, reports = unpack(KEYS)
local group, deliveries_max, slice, from = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[8]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now - tonumber(ARGV[6]) > tonumber(ARGV[7]) then return { -1, 0, 0, '' } end
redis.call('XLEN', stream)
redis.call('LLEN', again)
redis.call('LLEN', apart)
redis.call('XLEN', reports)

local passed, next_from = {}, ''
local function pass(id, number)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  passed[#passed + 1] = { tonumber(ms), tonumber(seq), id, number }
end
for i = 9, #ARGV, 2 do
  local name, lease = ARGV[i], tonumber(ARGV[i + 1])
  if from ~= '' then
    -- Also those that are not over are looked at here, so that a step has an end whatever the owner holds.
    local entries = redis.pcall('XPENDING', stream, group, from, '+', slice, name)
    if entries.err then break end
    for _, entry in ipairs(entries) do
      if entry[3] >= lease then pass(entry[1], entry[4]) end
    end
    if #entries == slice then next_from = '(' .. entries[slice][1] end
  elseif #passed < slice then
    local entries = redis.pcall('XPENDING', stream, group, 'IDLE', lease, '-', '+', slice - #passed, name)
    -- There is no group any more: then nobody holds anything.
    if entries.err then break end
    for _, entry in ipairs(entries) do pass(entry[1], entry[4]) end
  end
end
table.sort(passed, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)

local function is_gone(id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  return entry and redis.call('ZSCORE', KEYS[5], run_of(entry[2][2]))
end
local any_gone = KEYS[5] and redis.call('EXISTS', KEYS[5]) == 1

-- Of those that have begun the same number of times, all in one command.
local by_number, order, suspects, lost = {}, {}, {}, 0
for _, entry in ipairs(passed) do
  local id, number = entry[3], entry[4]
  local begun = math.ceil(number / 2)
  if any_gone and is_gone(id) then
    redis.call('XACK', stream, group, id)
    redis.call('XDEL', stream, id)
  elseif deliveries_max == 0 or begun < deliveries_max then
    local after = 2 * begun
    if not by_number[after] then
      by_number[after] = {}
      order[#order + 1] = after
    end
    table.insert(by_number[after], id)
  else
    local there = redis.call('XRANGE', stream, id, id)[1]
    if there then
      local report = string.sub(there[2][2], 1, HEAD) .. ARGV[5] .. struct.pack('>I4', begun)
      redis.call('XADD', reports, '*', 'c', report)
      redis.call('XDEL', stream, id)
      lost = lost + 1
    end
    redis.call('XACK', stream, group, id)
  end
end
local are_events, claimed, returned = stream == reports, {}, {}
for _, number in ipairs(order) do
  local ids = by_number[number]
  local n = #ids
  ids[n + 1], ids[n + 2], ids[n + 3] = 'RETRYCOUNT', number, 'JUSTID'
  -- A leaf that has lost one worker comes again beside others; after two it is a suspect.
  local is_suspect = are_events or number > 2
  local owner, list = is_suspect and '~' or '-', is_suspect and suspects or returned
  -- What is no more in the stream is let go by this.
  for _, id in ipairs(redis.call('XCLAIM', stream, group, owner, 0, unpack(ids))) do claimed[id] = list end
end
for _, entry in ipairs(passed) do
  local list = claimed[entry[3]]
  if list then list[#list + 1] = entry[3] end
end
local count = #suspects + #returned
if #suspects > 0 then redis.call('RPUSH', apart, unpack(suspects)) end
if #returned > 0 then redis.call('RPUSH', again, unpack(returned)) end
if count > 0 and not are_events then redis.pcall('PUBLISH', channel_of(stream), '') end
-- Of a line of reports, they are there again.
if lost > 0 or count > 0 and are_events then redis.pcall('PUBLISH', ARGV[2], 'r' .. reports) end
return { count, lost, #passed, next_from }
