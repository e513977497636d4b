#!lua flags=no-writes
-- What is held of lines, and what the time is.
-- KEYS: stream, again and apart of each line    ARGV: group
-- Returns the time in ms, then for each line how many entries are held by anybody, how many consumers there
-- are, how many entries wait in again and apart, and how many there are in all.
local time = redis.call('TIME')
local function length(key)
  local length = redis.pcall('LLEN', key)
  return type(length) == 'number' and length or -1
end
local found = { time[1] * 1000 + math.floor(time[2] / 1000) }
for i = 1, #KEYS, 3 do
  local pending, consumers = 0, 0
  -- There is no stream yet, or none any more: then nobody holds anything.
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[i])
  for _, about in ipairs(groups.err and {} or groups) do
    local fields = {}
    for j = 1, #about, 2 do fields[about[j]] = about[j + 1] end
    if fields.name == ARGV[1] then pending, consumers = fields.pending, fields.consumers end
  end
  local n = #found
  found[n + 1], found[n + 2] = pending, consumers
  found[n + 3], found[n + 4] = length(KEYS[i + 1]), length(KEYS[i + 2])
  local all = redis.pcall('XLEN', KEYS[i])
  found[n + 5] = type(all) == 'number' and all or 0
end
return found
