#!lua flags=allow-oom
-- Reports how deliveries ended and acknowledges them.
-- KEYS: stream and reports of each queue | on one server also the index of reports
-- ARGV: group, channel of the hints, then for each delivery: place of its queue, id, report
local group, reported, hints = ARGV[1], {}, nil
local last = #KEYS - #KEYS % 2
local index = KEYS[last + 1]
for i = 1, last, 2 do reported[i] = {} end
for i = 3, #ARGV, 3 do
  local at = 2 * ARGV[i] - 1
  redis.call('XADD', KEYS[at + 1], '*', 'c', ARGV[i + 2])
  local ids = reported[at]
  ids[#ids + 1] = ARGV[i + 1]
end
for i = 1, last, 2 do
  remove(KEYS[i], group, reported[i])
  -- Also for who has not heard of it yet: a hint is on its way for a moment.
  if index then redis.call('ZADD', index, '0', KEYS[i + 1]) end
  hints = (hints and hints .. '\n' or '') .. 'r' .. KEYS[i + 1]
end
redis.pcall('PUBLISH', ARGV[2], hints)
return 0
