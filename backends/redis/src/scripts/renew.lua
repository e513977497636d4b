#!lua flags=allow-oom
-- Prolongs the leases that their owner still holds: from now on by this consumer's time.
-- KEYS: stream    ARGV: group, owner, the owner as a consumer, then the ids
local stream, group, owner, held = KEYS[1], ARGV[1], ARGV[2], {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if not pending.err and pending[1] and string.match(pending[1][2], '^(.*)#%d+$') == owner then
    held[#held + 1] = id
  end
end
if #held > 0 then
  held[#held + 1] = 'JUSTID'
  redis.call('XCLAIM', stream, group, ARGV[3], 0, unpack(held))
end
return 0
