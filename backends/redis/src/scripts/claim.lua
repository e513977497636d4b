#!lua flags=allow-oom
-- Notes on a Cluster who empties the outbox of a run, and until when nobody else does.
-- KEYS: hash of the run    ARGV: who, for how many ms (0: no longer), the run's incarnation
-- Returns 0 when somebody else does so now.
local known = redis.call('HMGET', KEYS[1], 'm', 'd')
if not known[1] or incarnation_of(known[1]) ~= ARGV[3] then return 1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if known[2] then
  local holder, till = string.match(known[2], '^(%d+) (%d+)$')
  -- One that reaches so much further than ours was made before the clock was set back.
  local left, ms = till and tonumber(till) - now or 0, tonumber(ARGV[2])
  if holder ~= ARGV[1] and left > 0 and (ms == 0 or left <= 10 * ms) then return 0 end
end
if ARGV[2] ~= '0' then
  redis.call('HSET', KEYS[1], 'd', ARGV[1] .. ' ' .. string.format('%.0f', now + tonumber(ARGV[2])))
else
  redis.call('HDEL', KEYS[1], 'd')
end
return 1
