#!lua flags=allow-oom
-- One command that must not be refused because Redis is full.
-- KEYS: what it is about    ARGV: the command, and what follows the key
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
