#!lua flags=allow-oom
-- Removes entries that are done with.
-- KEYS: stream, leases    ARGV: group, ids
redis.call('ZCARD', KEYS[2])
redis.pcall('XACK', KEYS[1], unpack(ARGV))
redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
redis.call('ZREM', KEYS[2], unpack(ARGV, 2))
return 0
