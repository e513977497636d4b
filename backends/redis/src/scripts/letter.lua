#!lua flags=allow-oom
-- Adds a dead letter; the oldest make room for it.
-- KEYS: the dead letters    ARGV: how many there may be, how many bytes they may take, then fields and values
local letters, length = KEYS[1], tonumber(ARGV[1])
redis.call('XADD', letters, 'MAXLEN', length, '*', unpack(ARGV, 3))
while length > 1 do
  -- A user who may not ask has the other bound.
  local bytes = redis.pcall('MEMORY', 'USAGE', letters, 'SAMPLES', 0)
  if type(bytes) ~= 'number' or bytes <= tonumber(ARGV[2]) then break end
  length = math.max(math.floor(redis.call('XLEN', letters) / 2), 1)
  redis.call('XTRIM', letters, 'MAXLEN', length)
end
return 0
