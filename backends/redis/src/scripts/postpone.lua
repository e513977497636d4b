#!lua flags=allow-oom
-- Gives an entry back as another one that is queued later; only when its owner still holds
-- it.
-- KEYS: stream, delayed, gone of the queue | on one server also the index of timers
-- ARGV: group, owner, id, message, after how many ms, the channel of the hints at timers
redis.call('ZCARD', KEYS[2])
if KEYS[4] then redis.call('ZCARD', KEYS[4]) end
if owner_of((held(KEYS[1], ARGV[1], ARGV[3]))) ~= ARGV[2] then return 0 end
if redis.call('EXISTS', KEYS[3]) == 1 and redis.call('ZSCORE', KEYS[3], run_of(ARGV[4])) then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
  redis.call('XDEL', KEYS[1], ARGV[3])
  return 1
end
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + 1 + tonumber(ARGV[5])
redis.call('ZADD', KEYS[2], due, ARGV[4])
if KEYS[4] then redis.call('ZADD', KEYS[4], 'LT', due, KEYS[1]) end
redis.pcall('PUBLISH', ARGV[6], 't' .. KEYS[1])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
return 1
