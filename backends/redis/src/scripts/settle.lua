#!lua
-- Applies completions to one run: the transition table of the engine's `advance`, on packed states.
-- KEYS: meta st counts attempts out closed graph owing
-- ARGV: run, the run's incarnation, channel of its hints, completions, then the outcome of each completion
-- A completion is {node, attempt, kind, is output, scope, successors...}, kinds: 0 success, 1 failure, 2 retry,
-- 3 not a leaf. Nodes that wait are written {first, how many, initial counter, is join}: neighbours that wait for one
-- thing each are released together.
local meta_key, st, counts, attempts, out, closed, graph, owing = unpack(KEYS)
local meta = redis.call('HMGET', meta_key, 'format', 'id', 'nodes', 'parts', 'open', 'owed', 'left', 'failed')
if not meta[1] then return false end
if meta[1] ~= '1' then
  return redis.error_reply('CORRUPT the run has format ' .. meta[1] .. ', this program knows format 1')
end
if meta[2] ~= ARGV[2] then return 0 end
local open, owed, left, failed = tonumber(meta[5]), tonumber(meta[6]), tonumber(meta[7]), meta[8]

-- A script is not rolled back: whatever may be wrong is found out before the first write.
if redis.call('STRLEN', st) ~= tonumber(meta[3]) or redis.call('HLEN', graph) ~= tonumber(meta[4]) then
  return redis.error_reply('CORRUPT the node states or the graph of the run are not whole')
end
for _, key in ipairs({ counts, attempts, out, closed }) do redis.call('HLEN', key) end
redis.call('ZCARD', owing)
local undecided, owed_before = left > 0 and not failed, owed
local has_attempts = redis.call('HLEN', attempts) > 0

local counted, joins, ranges, retried = {}, {}, {}, {}

local function release(first, many)
  redis.call('SETRANGE', st, first - 1, string.rep('R', many))
  open, owed = open + many, owed + many
  ranges[#ranges + 1] = first
  ranges[#ranges + 1] = many
end

local function count(node, initial, is_join)
  local seen = counted[node] or tonumber(redis.call('HGET', counts, node) or 0)
  seen = seen + 1
  counted[node] = seen
  if seen < initial then return end
  counted[node] = 0
  if is_join == 1 then joins[#joins + 1] = node else release(node, 1) end
end

local function count_all(list, from)
  for i = from, #list, 4 do
    local first, many, initial, is_join = list[i], list[i + 1], list[i + 2], list[i + 3]
    if initial > 1 then
      for node = first, first + many - 1 do count(node, initial, is_join) end
    elseif is_join == 1 then
      for node = first, first + many - 1 do joins[#joins + 1] = node end
    else
      release(first, many)
    end
  end
end

-- Joins succeed in the step in which their last predecessor does.
local function work_off()
  while #joins > 0 do
    local join = table.remove(joins)
    redis.call('SETRANGE', st, join - 1, 'S')
    local part = cmsgpack.unpack(redis.call('HGET', graph, 'j' .. join))
    left = left - part[1]
    count_all(part, 2)
  end
end

-- A scope that is closed ends the walk: who closed it has closed all above it.
local function close(scope, node)
  while redis.call('HSETNX', closed, scope, node) == 1 do
    if scope == 0 then failed = node end
    local part = cmsgpack.unpack(redis.call('HGET', graph, 's' .. scope))
    count_all(part, 3)
    if part[1] == 0 then return end
    scope = part[2]
  end
end

local verdicts, outcomes, again = {}, {}, 0
for i, done in ipairs(cmsgpack.unpack(ARGV[4])) do
  local node, attempt, kind = done[1], done[2], done[3]
  local phase = kind == 3 and 'W' or redis.call('GETRANGE', st, node - 1, node - 1)
  local verdict
  if phase == 'S' or phase == 'F' then
    verdict, again = 'D', 1
  elseif phase == 'R' or phase == 'D' then
    local current = has_attempts and tonumber(redis.call('HGET', attempts, node) or 1) or 1
    if attempt < current then
      verdict, again = 'O', 1
    elseif attempt > current then
      verdict = 'X'
    else
      if phase == 'R' then owed = owed - 1 end
      if kind == 2 then
        redis.call('SETRANGE', st, node - 1, 'R')
        redis.call('HSET', attempts, node, current + 1)
        has_attempts, owed = true, owed + 1
        retried[#retried + 1] = node
        retried[#retried + 1] = current + 1
        verdict = 'Y'
      else
        outcomes[#outcomes + 1] = node
        outcomes[#outcomes + 1] = ARGV[4 + i]
        open = open - 1
        if kind == 0 then
          redis.call('SETRANGE', st, node - 1, 'S')
          left = left - done[4]
          count_all(done, 6)
        else
          redis.call('SETRANGE', st, node - 1, 'F')
          close(done[5], node)
        end
        work_off()
        verdict = 'A'
      end
    end
  else
    verdict = 'X'
  end
  verdicts[i] = verdict
end

for from = 1, #outcomes, 1000 do
  redis.call('HSET', out, unpack(outcomes, from, math.min(from + 999, #outcomes)))
end
for node, seen in pairs(counted) do
  if seen == 0 then redis.call('HDEL', counts, node) else redis.call('HSET', counts, node, seen) end
end
redis.call('HSET', meta_key, 'open', open, 'owed', owed, 'left', left)
if #outcomes > 0 then redis.call('HINCRBY', meta_key, 'done', #outcomes / 2) end
if failed and not meta[8] then redis.call('HSET', meta_key, 'failed', failed) end
local version = redis.call('HINCRBY', meta_key, 'version', 1)
if owed == 0 and owed_before > 0 then
  redis.call('ZREM', owing, ARGV[1])
elseif owed > 0 and owed_before == 0 then
  redis.call('ZADD', owing, redis.call('TIME')[1], ARGV[1])
end
redis.pcall('PUBLISH', ARGV[3], version)
local decided = undecided and (left == 0 or failed) and 1 or 0
return { table.concat(verdicts), ranges, retried, owed, decided, open == 0 and 1 or 0, again }
