#!lua flags=allow-oom
-- Counts the idle time of entries from now on that have been taken later than now, as far as the clock says:
-- it was set back meanwhile, and until it has caught up nobody would take them up whose owner is gone.
-- KEYS: stream    ARGV: group, from where on, at most how many
-- Returns from where on to go on ('' when there is no more).
local entries = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], '+', ARGV[3])
-- There is no group any more.
if entries.err then return '' end
for _, entry in ipairs(entries) do
  -- Later than now is told as just now, for which this changes nothing.
  if entry[3] == 0 then redis.call('XCLAIM', KEYS[1], ARGV[1], entry[2], 0, entry[1], 'IDLE', 0, 'JUSTID') end
end
return #entries == tonumber(ARGV[3]) and '(' .. entries[#entries][1] or ''
