#!lua flags=allow-oom
-- Prolongs the leases that the consumer still holds.
-- KEYS: stream, leases and again of each line
-- ARGV: group, consumer, lease in ms, then for each entry: place of its line, id
local group, consumer = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])
for i = 4, #ARGV, 2 do
  local at, id = 3 * ARGV[i] - 2, ARGV[i + 1]
  local pending = redis.pcall('XPENDING', KEYS[at], group, id, id, 1)
  if not pending.err and pending[1] and pending[1][2] == consumer then
    redis.call('ZADD', KEYS[at + 1], 'XX', deadline, id)
  end
end
return 0
