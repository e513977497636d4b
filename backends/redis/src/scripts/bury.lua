#!lua flags=allow-oom
-- Notes at a queue that a run is gone: leaves of it that are queued there are dropped when they are
-- taken.
-- KEYS: gone of the queue, the stream of each lane    ARGV: the run's incarnation, for how many ms at least
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
-- When the clock was set back, what is queued is later than now.
for i = 2, #KEYS do
  local last = redis.pcall('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)
  if not last.err and last[1] then at = math.max(at, tonumber(string.match(last[1][1], '^%d+'))) end
end
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
return 0
