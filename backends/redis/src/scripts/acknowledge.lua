#!lua flags=allow-oom
-- Removes entries that are done with.
-- KEYS: stream    ARGV: group, ids
remove(KEYS[1], ARGV[1], { unpack(ARGV, 2) })
return 0
