#!lua flags=allow-oom
-- Finds entries that nobody holds and that wait nowhere: only keys removed by hand leave such. They may be many, and some
-- may wait after all: then they are there twice, and who takes them finds only one.
-- KEYS: stream, and the list in which they are to wait
-- ARGV: group, the consumer that has them, the idle time in ms that is long, at most how many
local ids = {}
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4], ARGV[2])) do
  ids[#ids + 1] = entry[1]
end
if #ids == 0 then return 0 end
redis.call('LPUSH', KEYS[2], unpack(ids))
ids[#ids + 1] = 'JUSTID'
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids))
redis.pcall('PUBLISH', channel_of(KEYS[1]), '')
return #ids - 1
