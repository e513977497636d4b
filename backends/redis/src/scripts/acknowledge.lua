#!lua flags=allow-oom
-- Removes entries that are done with.
-- KEYS: stream, leases    ARGV: group, ids
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
for i = 2, #ARGV do
  redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i])
end
return 0
