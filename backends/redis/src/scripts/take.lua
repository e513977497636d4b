#!lua flags=allow-oom
-- Takes entries of lines, each leased to a consumer: first those that were given out before, then new ones.
-- KEYS: stream and again of each line    ARGV: group, consumer, how many at most
-- Returns, one after the other, the place of the line, id, deliveries, field and value of each entry.
local group, consumer, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
local taken = {}
for i = 1, #KEYS, 2 do
  if left == 0 then break end
  local line, stream, again = (i + 1) / 2, KEYS[i], KEYS[i + 1]
  local before, room = #taken, left
  while room > 0 do
    local ids = redis.call('LPOP', again, room)
    if not ids then break end
    for _, id in ipairs(ids) do
      -- Nothing comes back for an entry that was finished meanwhile, or when the group was made anew: the next ones
      -- still come before all new entries.
      local claimed = redis.pcall('XCLAIM', stream, group, consumer, 0, id)
      if not claimed.err and claimed[1] then
        local pending, fields = redis.call('XPENDING', stream, group, id, id, 1), claimed[1][2]
        local n = #taken
        taken[n + 1], taken[n + 2], taken[n + 3], taken[n + 4], taken[n + 5] =
          line, id, pending[1][4], fields[1], fields[2]
      end
    end
    room = left - (#taken - before) / 5
  end
  if room > 0 then
    local read = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', room, 'STREAMS', stream, '>')
    if read and read.err then
      -- There is no group yet; or no stream, and then nothing to take: looking does not bring a queue about.
      read = redis.call('EXISTS', stream) == 1
      if read then
        redis.call('XGROUP', 'CREATE', stream, group, 0)
        read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', room, 'STREAMS', stream, '>')
      end
    end
    for _, entry in ipairs(read and read[1][2] or {}) do
      local n, fields = #taken, entry[2]
      taken[n + 1], taken[n + 2], taken[n + 3], taken[n + 4], taken[n + 5] =
        line, entry[1], 1, fields[1], fields[2]
    end
  end
  left = left - (#taken - before) / 5
end
return taken
