#!lua
-- Gives entries back to the head of their lines, not counted; only those that the consumer still holds.
-- KEYS: stream, leases and again of each line    ARGV: group, consumer, then for each entry: place of its line, id
-- Entries come in the order in which they are to be taken again.
local group, consumer = ARGV[1], ARGV[2]
for i = 1, #KEYS, 3 do
  redis.call('XLEN', KEYS[i])
  redis.call('ZCARD', KEYS[i + 1])
  redis.call('LLEN', KEYS[i + 2])
end
local used = {}
for i = #ARGV - 1, 3, -2 do
  local at, id = 3 * ARGV[i] - 2, ARGV[i + 1]
  local stream = KEYS[at]
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if not pending.err and pending[1] and pending[1][2] == consumer then
    redis.call('XCLAIM', stream, group, '-', 0, id, 'RETRYCOUNT', pending[1][4] - 1, 'JUSTID')
    redis.call('ZREM', KEYS[at + 1], id)
    redis.call('LPUSH', KEYS[at + 2], id)
    used[stream] = true
  end
end
for stream in pairs(used) do redis.pcall('PUBLISH', stream, '') end
return 0
