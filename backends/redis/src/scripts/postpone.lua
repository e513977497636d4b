#!lua flags=allow-oom
-- Gives an entry back as another one that is queued later; only when its owner still holds it.
-- KEYS: stream, delayed    ARGV: group, owner, id, message, after how many ms
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
redis.call('ZCARD', KEYS[2])
if pending.err or not pending[1] or string.match(pending[1][2], '^(.*)#%d+$') ~= ARGV[2] then return 0 end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + 1 + tonumber(ARGV[5]), ARGV[4])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
return 1
