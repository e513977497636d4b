#!lua
-- Takes entries of lines, each leased to a consumer: first those that were given out before, then new ones.
-- KEYS: stream, leases and again of each line    ARGV: group, consumer, how many at most, lease in ms
-- Returns {place of the line, id, deliveries, fields} of each.
local group, consumer, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
for i = 1, #KEYS, 3 do
  redis.call('XLEN', KEYS[i])
  redis.call('ZCARD', KEYS[i + 1])
  redis.call('LLEN', KEYS[i + 2])
end
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[4])
local taken = {}

local function keep(line, leases, id, deliveries, fields)
  redis.call('ZADD', leases, deadline, id)
  taken[#taken + 1] = { line, id, deliveries, fields }
  left = left - 1
end

for i = 1, #KEYS, 3 do
  local line, stream, leases, again = (i + 2) / 3, KEYS[i], KEYS[i + 1], KEYS[i + 2]
  while left > 0 do
    local id = redis.call('LPOP', again)
    if not id then break end
    -- Nothing comes back for an entry that was finished meanwhile, or when the group was made anew.
    local claimed = redis.pcall('XCLAIM', stream, group, consumer, 0, id)
    if not claimed.err and claimed[1] then
      local pending = redis.call('XPENDING', stream, group, id, id, 1)
      keep(line, leases, id, pending[1][4], claimed[1][2])
    end
  end
  if left > 0 then
    local command = { 'XREADGROUP', 'GROUP', group, consumer, 'COUNT', left, 'STREAMS', stream, '>' }
    local read = redis.pcall(unpack(command))
    if read and read.err then
      redis.call('XGROUP', 'CREATE', stream, group, 0, 'MKSTREAM')
      read = redis.call(unpack(command))
    end
    for _, entry in ipairs(read and read[1][2] or {}) do
      keep(line, leases, entry[1], 1, entry[2])
    end
  end
end
return taken
