#!lua
-- Adds a piece to what is staged of a large run; it expires when its client does not come to the end.
-- KEYS: what it is added to    ARGV: after how many seconds, the piece of a plan, or fields and values
if #ARGV == 2 then
  redis.call('APPEND', KEYS[1], ARGV[2])
else
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 0
