#!lua flags=allow-oom
-- Removes the consumers of an owner that is gone, unless they still hold something: that comes back by its lease.
-- KEYS: stream    ARGV: group, owner
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
for _, consumer in ipairs(consumers.err and {} or consumers) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  if about.pending == 0 and string.match(about.name, '^(.*)#%d+$') == ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
  end
end
return 0
