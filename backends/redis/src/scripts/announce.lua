#!lua flags=allow-oom
-- Announces a run that is stored: on a Cluster, and when its event is gone.
-- KEYS: intents submissions    ARGV: id and incarnation
redis.call('ZCARD', KEYS[1])
redis.call('XADD', KEYS[2], '*', 's', ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.pcall('PUBLISH', KEYS[2], '')
return 0
