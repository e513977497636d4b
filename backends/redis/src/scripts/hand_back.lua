#!lua flags=allow-oom
-- Gives entries back to the head of their line, not counted; only those that their owner still holds.
-- KEYS: stream, again, apart    ARGV: group, owner, whether they are events as 0 or 1, then the ids in the order in which
-- they are to be taken again
local stream, again, apart = unpack(KEYS)
local group, owner = ARGV[1], ARGV[2]
redis.call('LLEN', again)
redis.call('LLEN', apart)
local given = 0
for i = #ARGV, 4, -1 do
  local id = ARGV[i]
  local consumer, number = held(stream, group, id)
  if owner_of(consumer) == owner then
    local is_suspect = number > 3 or number > 1 and ARGV[3] == '1'
    redis.call('XCLAIM', stream, group, is_suspect and '~' or '-', 0, id, 'RETRYCOUNT', number - number % 2, 'JUSTID')
    redis.call('LPUSH', is_suspect and apart or again, id)
    given = given + 1
  end
end
if given > 0 then redis.pcall('PUBLISH', channel_of(stream), '') end
return 0
