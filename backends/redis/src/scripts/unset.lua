#!lua flags=allow-oom
-- Removes timers of a run that is gone, a slice at a time.
-- KEYS: delayed or expiring of a lane    ARGV: the run's incarnation, cursor, about how many    Returns the next cursor.
local page = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
for i = 1, #page[2], 2 do
  if run_of(page[2][i]) == ARGV[1] then redis.call('ZREM', KEYS[1], page[2][i]) end
end
return page[1]
