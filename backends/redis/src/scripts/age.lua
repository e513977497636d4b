#!lua flags=no-writes
-- For how many ms the oldest entry of a stream is there that nobody has taken, -1 when there is none.
-- KEYS: the stream    ARGV: group
local from = '-'
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, about in ipairs(groups.err and {} or groups) do
  local fields = {}
  for i = 1, #about, 2 do fields[about[i]] = about[i + 1] end
  if fields.name == ARGV[1] then from = '(' .. fields['last-delivered-id'] end
end
local first = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
if not first then return -1 end
local time = redis.call('TIME')
return math.max(time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(string.match(first[1], '^%d+')), 0)
