#!lua flags=allow-oom
-- Removes a queue that holds nothing and has not been used for a while.
-- KEYS: the keys of its two lines of reports, then of each lane the keys of its line, its delayed and
--       expiring leaves | on one server also names, lanes, index of reports, index of timers
-- ARGV: group, how many keys a line has, how many lanes, name, when in ms it must have been used last (0: it is not to
--       go), when it was used as far as is known, what the lanes are called
-- Returns 2 when it is gone, 1 when it keeps something that nobody holds, 0 when somebody holds something, 3
-- when nothing of that is so but it was used since then.
local group, width, count, name = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local first = 2 * width + 1
local last = 2 * width + count * (width + 2)
local names, lanes, reports, timers = KEYS[last + 1], KEYS[last + 2], KEYS[last + 3], KEYS[last + 4]
local keeps = false
local function look(from)
  local stream, waiting = KEYS[from], 0
  -- What is delivered and not finished is there, too.
  if redis.call('XLEN', stream) == 0 then return false end
  keeps = true
  -- What was given back is with nobody.
  for list = from + 1, from + width - 1 do waiting = waiting + redis.call('LLEN', KEYS[list]) end
  local pending = redis.pcall('XPENDING', stream, group)
  return not pending.err and pending[1] > waiting
end
if look(1) or look(width + 1) then return 0 end
for i = first, last, width + 2 do
  if look(i) then return 0 end
  if redis.call('ZCARD', KEYS[i + width]) > 0 or redis.call('ZCARD', KEYS[i + width + 1]) > 0 then
    -- On a Cluster a sweep looks at timers that nobody has told of.
    if not names then return 0 end
    keeps = true
  end
end
if keeps then return 1 end
if tonumber(names and redis.call('ZSCORE', names, name) or ARGV[6]) ~= tonumber(ARGV[5]) then return 3 end
redis.call('UNLINK', unpack(KEYS, 1, last))
if names then
  redis.call('UNLINK', (string.gsub(KEYS[1], 'done:stream$', 'idle')))
  redis.call('ZREM', names, name)
  if #ARGV > 6 then redis.call('SREM', lanes, unpack(ARGV, 7)) end
  redis.call('ZREM', reports, KEYS[1], KEYS[width + 1])
  for i = first, last, width + 2 do redis.call('ZREM', timers, KEYS[i]) end
end
return 2
