#!lua flags=allow-oom
-- Notes at a queue that a run is gone: leaves of it that are queued there are dropped when they are taken.
-- KEYS: gone of the queue    ARGV: the run's incarnation, for how many ms at least
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2]), ARGV[1])
return 0
