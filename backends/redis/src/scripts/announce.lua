#!lua flags=allow-oom
-- Announces on a Cluster a run that is stored.
-- KEYS: intents submissions    ARGV: id and incarnation
redis.call('ZCARD', KEYS[1])
redis.call('XADD', KEYS[2], '*', 's', ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.pcall('PUBLISH', KEYS[2], '')
return 0
