#!lua flags=allow-oom
-- Writes a piece of a text that a run is to own. What is written expires, until the last piece lets it stay.
-- KEYS: hash of the run, the text, the names of the run's texts
-- ARGV: name, place of the piece, the piece, of the last one how many there are (else 0), after how many s it expires, the
--       run's incarnation
-- Returns 1 when it is written, 0 when there is no such run, 2 when pieces before the last are gone.
local m = redis.call('HGET', KEYS[1], 'm')
if not m or wrong_format(m) or incarnation_of(m) ~= ARGV[6] then
  redis.call('UNLINK', KEYS[2])
  return 0
end
local count = tonumber(ARGV[4])
redis.call('SCARD', KEYS[3])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if count == 0 then
  redis.call('EXPIRE', KEYS[2], ARGV[5])
  return 1
end
if redis.call('HLEN', KEYS[2]) ~= count then
  redis.call('EXPIRE', KEYS[2], ARGV[5])
  return 2
end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('PERSIST', KEYS[2])
return 1
