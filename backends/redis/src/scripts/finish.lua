#!lua flags=allow-oom
-- Reports how deliveries ended and acknowledges them.
-- KEYS: stream and reports of each queue | on one server also the index of reports
-- ARGV: group, channel of the hints, the number of the database when the report is the only one and small
--       (else empty), how many deliveries of each queue; then id and report of each, those of one queue after
--       the other
local group, hints, entry = ARGV[1], nil, nil
local queues = math.floor(#KEYS / 2)
local index = KEYS[2 * queues + 1]
local at = 4 + queues
for queue = 1, queues do
  local stream, reports, ids = KEYS[2 * queue - 1], KEYS[2 * queue], {}
  -- Also for who has not heard of it yet: a hint is on its way for a moment. First:
  -- when that is something else, nothing is done.
  if index then redis.call('ZADD', index, '0', reports) end
  for i = 1, tonumber(ARGV[3 + queue]) do
    entry = redis.call('XADD', reports, '*', 'c', ARGV[at + 1])
    ids[i] = ARGV[at]
    at = at + 2
  end
  -- Where the leaves were is something else now: then nothing is left there to be
  -- removed.
  local is_removed, why = pcall(remove, stream, group, ids)
  local text = not is_removed and (type(why) == 'table' and why.err or tostring(why))
  if text and not string.find(text, 'WRONGTYPE', 1, true) then
    return type(why) == 'table' and why or redis.error_reply(text)
  end
  hints = (hints and hints .. '\n' or '') .. 'r' .. reports
end
-- Where one connection listens, and nothing else is in the line, it is told the
-- report: see `early.rs`. Those of other databases hear it, too.
if index and ARGV[3] ~= '' and redis.call('XLEN', KEYS[2]) == 1 then
  local listeners = redis.pcall('PUBSUB', 'NUMSUB', ARGV[2])
  if not listeners.err and listeners[2] == 1 then
    hints = table.concat({ hints, ARGV[3], entry, ARGV[at - 1] }, '\0')
  end
end
redis.pcall('PUBLISH', ARGV[2], hints)
return 0
