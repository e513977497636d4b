#!lua flags=allow-oom
-- Announces the runs on a Cluster whose clients have not done so for long: each is stored by now, or never will be.
-- KEYS: intents submissions    ARGV: how long is long in ms, at most how many
local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('XADD', KEYS[2], '*', 's', id)
  redis.call('ZREM', KEYS[1], id)
end
if #ids > 0 then redis.pcall('PUBLISH', KEYS[2], '') end
return #ids
