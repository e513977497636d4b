#!lua flags=allow-oom
-- Gives entries back to the head of their line, not counted; only those that their owner still holds.
-- KEYS: stream again    ARGV: group, owner, then the ids in the order in which they are to be taken again
local stream, again = unpack(KEYS)
local group, owner = ARGV[1], ARGV[2]
redis.call('LLEN', again)
local given = false
for i = #ARGV, 3, -1 do
  local id = ARGV[i]
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if not pending.err and pending[1] and string.match(pending[1][2], '^(.*)#%d+$') == owner then
    redis.call('XCLAIM', stream, group, '-', 0, id, 'RETRYCOUNT', pending[1][4] - 1, 'JUSTID')
    redis.call('LPUSH', again, id)
    given = true
  end
end
if given then redis.pcall('PUBLISH', channel_of(stream), '') end
return 0
