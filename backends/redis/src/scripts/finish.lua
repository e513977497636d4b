#!lua
-- Reports how deliveries ended and acknowledges them.
-- KEYS: stream, leases and reports of each queue
-- ARGV: group, channel of the hints, then for each delivery: place of its queue, id, report
local group, reported = ARGV[1], {}
for i = 1, #KEYS, 3 do
  redis.call('ZCARD', KEYS[i + 1])
  reported[i] = {}
end
for i = 3, #ARGV, 3 do
  local at = 3 * ARGV[i] - 2
  redis.call('XADD', KEYS[at + 2], '*', 'c', ARGV[i + 2])
  local ids = reported[at]
  ids[#ids + 1] = ARGV[i + 1]
end
for i = 1, #KEYS, 3 do
  local ids = reported[i]
  -- There is no group when somebody destroyed it: then there is nothing to acknowledge.
  redis.pcall('XACK', KEYS[i], group, unpack(ids))
  redis.call('XDEL', KEYS[i], unpack(ids))
  redis.call('ZREM', KEYS[i + 1], unpack(ids))
end
redis.pcall('PUBLISH', ARGV[2], '')
return 0
