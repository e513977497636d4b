#!lua flags=allow-oom
-- Prolongs the leases that their owner still holds: from now on by this consumer's time. What was taken up
-- and is with nobody else yet, it holds again.
-- KEYS: stream    ARGV: group, owner, the owner as a consumer, then the ids
local stream, group, owner, mine = KEYS[1], ARGV[1], ARGV[2], {}
for i = 4, #ARGV do
  local consumer, number = held(stream, group, ARGV[i])
  local is_with_nobody = consumer == '~' or consumer == '-' and number > 0
  if is_with_nobody or consumer and owner_of(consumer) == owner then mine[#mine + 1] = ARGV[i] end
end
if #mine > 0 then
  mine[#mine + 1] = 'JUSTID'
  redis.call('XCLAIM', stream, group, ARGV[3], 0, unpack(mine))
end
return 0
