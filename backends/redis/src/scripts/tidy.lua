#!lua flags=allow-oom
-- Removes consumers, unless they hold something.
-- KEYS: stream    ARGV: group, consumers
for i = 2, #ARGV do
  local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[i])
  if not held.err and #held == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[i]) end
end
return 0
