#!lua flags=allow-oom
-- Notes that queues and lanes are about to be used.
-- KEYS: names lanes    ARGV: how many names there may be (0: any number), how many names follow, the names,
--       the lanes
-- Returns how many names there were when there would be too many, else -1.
local max, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 3, 2 + count))
if max > 0 then
  local there, new = redis.call('ZCARD', KEYS[1]), 0
  for i = 1, count do
    if not known[i] then new = new + 1 end
  end
  if new > 0 and there + new > max then return there end
end
local time = redis.call('TIME')
local now, names = time[1] * 1000 + math.floor(time[2] / 1000), {}
for i = 1, count do
  names[2 * i - 1], names[2 * i] = now, ARGV[2 + i]
end
redis.call('ZADD', KEYS[1], unpack(names))
if #ARGV > 2 + count and redis.call('SADD', KEYS[2], unpack(ARGV, 3 + count)) > 0 then
  -- Whoever waits for leaves of these queues looks for lanes.
  local prefix, told = string.gsub(KEYS[1], '{events}:names$', ''), {}
  for i = 3 + count, #ARGV do
    local name = string.match(ARGV[i], '^(.*)\1%d+$')
    if name and not told[name] then redis.pcall('PUBLISH', prefix .. '{q:' .. name .. '}:stream', 'l') end
    told[name or ''] = true
  end
end
return -1
