#!lua flags=allow-oom
-- Removes notes of runs that are gone when the queue holds nothing that was there before them.
-- KEYS: gone of the queue, the stream of each lane    Returns whether there are notes left.
local time = redis.call('TIME')
-- What was told in this very millisecond goes as well when the queue is empty.
local first = time[1] * 1000 + math.floor(time[2] / 1000) + 1
for i = 2, #KEYS do
  local entry = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
  if entry then first = math.min(first, tonumber(string.match(entry[1], '^%d+'))) end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', first))
return redis.call('EXISTS', KEYS[1])
