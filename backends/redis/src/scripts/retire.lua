#!lua flags=allow-oom
-- Removes a consumer that is gone, unless it still holds something: that comes back by its lease.
-- KEYS: stream    ARGV: group, consumer
local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if not held.err and not held[1] then
  redis.pcall('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return 0
