#!lua flags=allow-oom
-- Gives entries back to the head of their line, not counted; only those that their owner still holds.
-- KEYS: stream, again, apart    ARGV: group, owner, then the ids in the order in which they are to be taken again
local stream, again, apart = unpack(KEYS)
local group, owner = ARGV[1], ARGV[2]
redis.call('LLEN', again)
redis.call('LLEN', apart)
local given = 0
for i = #ARGV, 3, -1 do
  local id = ARGV[i]
  local consumer, number = held(stream, group, id)
  if owner_of(consumer) == owner then
    if number > 1 then
      redis.call('XCLAIM', stream, group, '~', 0, id, 'RETRYCOUNT', number - number % 2, 'JUSTID')
      redis.call('LPUSH', apart, id)
    else
      redis.call('XCLAIM', stream, group, '-', 0, id, 'RETRYCOUNT', 0, 'JUSTID')
      redis.call('LPUSH', again, id)
    end
    given = given + 1
  end
end
if given > 0 then redis.pcall('PUBLISH', channel_of(stream), '') end
return 0
