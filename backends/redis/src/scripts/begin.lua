#!lua flags=allow-oom
-- A leaf begins, if its worker still holds it: a suspect is counted, one that expires does so in time or not at all, and
-- one that runs once at most is marked.
-- KEYS: stream, expiring; hash of the run, when it is to be marked
-- ARGV: group, owner, id, the head of the message, when it expires in ms (0: never); what the mark takes
-- Returns 1 when it begins, 0 when its time is over, 2 when it is not its worker's any more; or what marking says.
local consumer, number = held(KEYS[1], ARGV[1], ARGV[3])
if owner_of(consumer) ~= ARGV[2] then return 2 end
local expires = tonumber(ARGV[5])
redis.call('ZCARD', KEYS[2])
if KEYS[3] then redis.call('HLEN', KEYS[3]) end
if number % 2 == 0 then
  redis.call('XCLAIM', KEYS[1], ARGV[1], consumer, 0, ARGV[3], 'RETRYCOUNT', number + 1, 'JUSTID')
end
if expires > 0 then
  local time = redis.call('TIME')
  redis.call('ZREM', KEYS[2], ARGV[4])
  if time[1] * 1000 + math.floor(time[2] / 1000) >= expires then return 0 end
end
return KEYS[3] and mark(KEYS[3], unpack(ARGV, 6)) or 1
