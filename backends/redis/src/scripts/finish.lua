#!lua
-- Reports how deliveries ended and acknowledges them.
-- KEYS: events, then stream, leases and again of each line
-- ARGV: group, then for each delivery: place of its line, id, task id, attempt, outcome
local events, group = KEYS[1], ARGV[1]
if redis.call('EXISTS', events) == 1 then redis.call('XLEN', events) end
for i = 2, #KEYS, 3 do
  redis.call('XLEN', KEYS[i])
  redis.call('ZCARD', KEYS[i + 1])
end
for i = 2, #ARGV, 5 do
  local at, id = 3 * ARGV[i] - 1, ARGV[i + 1]
  redis.call('XADD', events, '*', 't', ARGV[i + 2], 'a', ARGV[i + 3], 'o', ARGV[i + 4])
  redis.pcall('XACK', KEYS[at], group, id)
  redis.call('XDEL', KEYS[at], id)
  redis.call('ZREM', KEYS[at + 1], id)
end
redis.pcall('PUBLISH', events, '')
return 0
