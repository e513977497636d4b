#!lua flags=allow-oom
-- Prolongs the leases that the consumer still holds.
-- KEYS: stream leases    ARGV: group, consumer, lease in ms, then the ids
local stream, leases, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])
for i = 4, #ARGV do
  local id = ARGV[i]
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if not pending.err and pending[1] and pending[1][2] == consumer then
    redis.call('ZADD', leases, 'XX', deadline, id)
  end
end
return 0
