#!lua flags=no-writes
-- The heads of the leaves or reports in a slice of a stream, or of a lane's timers.
-- KEYS: the stream, or delayed
-- ARGV: 'stream' or 'timers', from where, how many
-- Returns the heads one after the other, and from where to go on; empty at the end.
local heads, next_from = {}, ''
if ARGV[1] == 'stream' then
  local entries = redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', ARGV[3])
  for i, entry in ipairs(entries) do heads[i] = string.sub(entry[2][2], 1, HEAD) end
  if #entries == tonumber(ARGV[3]) then next_from = '(' .. entries[#entries][1] end
else
  local answer = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
  for i = 1, #answer[2], 2 do heads[#heads + 1] = string.sub(answer[2][i], 1, HEAD) end
  if answer[1] ~= '0' then next_from = answer[1] end
end
local whole = {}
for _, head in ipairs(heads) do
  if #head == HEAD then whole[#whole + 1] = head end
end
return { table.concat(whole), next_from }
