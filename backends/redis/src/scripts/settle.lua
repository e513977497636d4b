#!lua flags=allow-oom
-- Applies completions to runs: the transition table of the engine's `advance`, on packed states. Each run is
-- settled whole or, when something stored is broken, not at all; one that is broken does not hold up the
-- others.
-- KEYS: hash and states of each run | on one Redis also: ended, the stream of each line of events, the
--       stream of each queue
-- ARGV: how many runs, how many lines, the group, what the channels of changes start with, the numbers, then
--       for each run: its id and incarnation, its channel, the outcomes of its completions, the messages of
--       prepared leaves, the ids of events
-- The numbers are one list, since many small ones would cost more than all the rest. For each run: how many
-- numbers follow, whether the caller knows the plan as 0 or 1, how many completions, prepared leaves and
-- events; the completions; node and place of the queue of each prepared leaf; place of the line of each
-- event. A completion is node, attempt, kind, whether it is an output, and how many numbers follow that say
-- who waits. Kinds: 0 success, 1 failure, 2 retry, 3 not a leaf, 4 replace. Of a failure, they are scopes,
-- from inside out: the scope, how many numbers follow, who waits for it. Nodes that wait are first, how many,
-- initial counter, is join, one after the other: neighbours that wait for one thing each are released
-- together. When the caller does not know the plan nobody waits: then that is read from the run.
-- Returns for each run what became of it: see `settle.rs`.
local WINDOW = 16384
local NEWS_BYTES_MAX = 1024
local DECIDED, ENDED, CLOSED, ACKNOWLEDGED = 1, 2, 4, 8

local runs, lines, group, channels = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local numbers = cmsgpack.unpack(ARGV[5])
local ended_key = KEYS[2 * runs + 1]
local first_line = 2 * runs + 2
local first_queue = first_line + lines - 1
local time, times = nil, {}
local ended, changed, used, acks, strange = {}, {}, {}, {}, {}
if ended_key then
  for i = 1, lines do acks[i] = {} end
  -- To a queue that is something else nothing goes: what was composed for it is owed, and whoever dispatches it
  -- is told.
  for i = first_queue + 1, #KEYS do
    local there = redis.pcall('XLEN', KEYS[i])
    if type(there) == 'table' then
      if not string.find(there.err, 'WRONGTYPE', 1, true) then return there end
      strange[i] = true
    end
  end
end

-- The run that is being settled. What is below is made once for all runs of a call, and anew for the next run
-- only when it was used.
local hash, states, inline, chunk, base, open, owed, left
local now, retries, counted, closed, wide, released, joins = {}, {}, {}, {}, {}, {}, {}
local verdicts, fields = {}, {}

-- When what is kept for so long from now on is to go. As text: numbers are slow to pass, and most are kept as
-- long.
local function due(retention)
  if not times[retention] then
    time = time or redis.call('TIME')
    times[retention] = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + retention)
  end
  return times[retention]
end

local function is_wide(node)
  for i = 1, #wide, 2 do
    if node >= wide[i] and node < wide[i] + wide[i + 1] then return true end
  end
  return false
end

local function state_of(node)
  if now[node] then return now[node] end
  if wide[1] and is_wide(node) then return 'R' end
  local place = node - base + 1
  if place >= 1 and place <= #chunk then return string.sub(chunk, place, place) end
  return inline and '' or redis.call('GETRANGE', states, node - 1, node - 1)
end

local function release(first, many)
  open, owed = open + many, owed + many
  local n = #released
  released[n + 1], released[n + 2] = first, many
  if many == 1 then
    now[first] = 'R'
  else
    n = #wide
    wide[n + 1], wide[n + 2] = first, many
  end
end

local function count(node, initial, is_join)
  local seen = counted[node] or tonumber(redis.call('HGET', hash, 'c' .. node) or 0)
  counted[node] = seen + 1
  if seen + 1 < initial then return end
  counted[node] = 0
  if is_join == 1 then joins[#joins + 1] = node else release(node, 1) end
end

local function count_all(list, from, to)
  for i = from, to, 4 do
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

-- A scope that is closed ends the walk: who closed it has closed all above it. Returns whether it was the
-- root.
local function close_all(node, list, from, to)
  while from <= to do
    local scope, last = list[from], from + 1 + list[from + 1]
    if closed[scope] or redis.call('HEXISTS', hash, 'x' .. scope) == 1 then return false end
    closed[scope] = node
    count_all(list, from + 2, last)
    if scope == 0 then return true end
    from = last + 1
  end
  return false
end

-- Joins succeed in the step in which their last predecessor does.
local function work_off()
  while joins[1] do
    local join = table.remove(joins)
    now[join] = 'S'
    local part = cmsgpack.unpack(redis.call('HGET', hash, 'j' .. join))
    left = left - part[1]
    count_all(part, 2, #part)
  end
end

-- Writes the states that have changed, neighbours together; returns them whole when they are kept with the
-- run.
local function write_states()
  local nodes, text, from, i = {}, {}, 1, 1
  for node in pairs(now) do nodes[#nodes + 1] = node end
  if nodes[2] then table.sort(nodes) end
  for w = 1, #wide, 2 do
    local part = string.rep('R', wide[w + 1])
    if inline then
      inline = string.sub(inline, 1, wide[w] - 1) .. part .. string.sub(inline, wide[w] + wide[w + 1])
    else
      redis.call('SETRANGE', states, wide[w] - 1, part)
    end
  end
  if inline then
    for _, node in ipairs(nodes) do
      if node > from then text[#text + 1] = string.sub(inline, from, node - 1) end
      text[#text + 1] = now[node]
      from = node + 1
    end
    if from <= #inline then text[#text + 1] = string.sub(inline, from) end
    return table.concat(text)
  end
  while i <= #nodes do
    local first, part = nodes[i], { now[nodes[i]] }
    while nodes[i + 1] == nodes[i] + 1 do
      i = i + 1
      part[#part + 1] = now[nodes[i]]
    end
    i = i + 1
    redis.call('SETRANGE', states, first - 1, table.concat(part))
  end
end

-- What is released and not queued here, as first and how many.
local function ranges_left()
  local ranges = {}
  for i = 1, #released, 2 do
    local first, many = released[i], released[i + 1]
    for node = first, first + many - 1 do
      -- What this same step has ended or released once more is not owed.
      if (now[node] or 'R') == 'R' and not retries[node] then
        ranges[#ranges + 1] = node
        ranges[#ranges + 1] = 1
      end
    end
  end
  return ranges
end

-- Settles a run whose numbers begin at `at`, and its texts after `arg`.
local function settle(run, channel, at, arg)
  local knows_plan, completions, prepared, events = numbers[at + 1] == 1, numbers[at + 2], numbers[at + 3], numbers[at + 4]
  local stored
  if knows_plan then
    stored = redis.call('HMGET', hash, 'm', 's')
  else
    stored = redis.call('HMGET', hash, 'm', 's', 'w')
  end
  local m = stored[1]
  inline = stored[2]
  if not m then return 'UNKNOWN' end
  if wrong_format(m) then return wrong_format(m) end
  local _, nodes, failed, ended_leaves, expected, retried, retention, version, plan, incarnation
  _, nodes, open, owed, left, failed, ended_leaves, expected, retried, retention, version, plan,
    incarnation =
    struct.unpack(META, m)
  -- Of a run that was forgotten, and whose id another one has now.
  if string.sub(run, 17) ~= incarnation then return 'UNKNOWN' end
  local wiring
  if not knows_plan and completions > 0 then
    if stored[3] then
      wiring = cmsgpack.unpack(stored[3])
    elseif open > 0 then
      return 'PLAN'
    end
  end
  if (inline and #inline or redis.call('STRLEN', states)) ~= nodes then
    return 'CORRUPT the node states of the run are not whole'
  end
  local open_before, undecided = open, left > 0 and failed == 0

  -- Nothing is written before everything is known: a script is not rolled back.
  at = at + 5
  local first = at
  chunk, base = inline, 1
  if not inline then
    local low, high, next_at = math.huge, 0, at
    for _ = 1, completions do
      if numbers[next_at + 2] ~= 3 then
        low, high = math.min(low, numbers[next_at]), math.max(high, numbers[next_at])
      end
      next_at = next_at + 5 + numbers[next_at + 4]
    end
    chunk, base = '', low
    if high >= low and high - low < WINDOW then chunk = redis.call('GETRANGE', states, low - 1, high - 1) end
  end
  if next(now) then now = {} end
  if next(retries) then retries = {} end
  if next(counted) then counted = {} end
  if next(closed) then closed = {} end
  if wide[1] then wide = {} end
  if released[1] then released = {} end
  if joins[1] then joins = {} end
  local again, changes, count = false, false, 4

  for i = 1, completions do
    local node, attempt, kind, is_output = numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]
    local list, from, to = numbers, at + 5, at + 4 + numbers[at + 4]
    at = to + 1
    if wiring then
      local known = wiring[node]
      if type(known) ~= 'table' then
        kind = 3
      else
        list, is_output = known, known[1]
        if kind == 0 then from, to = 3, 2 + known[2] else from, to = 3 + known[2], #known end
      end
    elseif not knows_plan and redis.call('HEXISTS', hash, 'j' .. node) == 1 then
      -- A run that has ended releases nothing any more: it is enough to know what is no leaf.
      kind = 3
    end
    local phase = kind == 3 and 'W' or state_of(node)
    local verdict = 'X'
    if phase == 'S' or phase == 'F' then
      verdict, again = 'D', true
    elseif phase == 'R' or phase == 'D' or phase == 'P' then
      local current = retries[node] or retried > 0 and tonumber(redis.call('HGET', hash, 'a' .. node) or 1) or 1
      -- A leaf that was replaced hears of no worker any more: how the canvas ended comes as the next attempt.
      if phase == 'P' then current = current + 1 end
      if phase == 'P' and kind == 4 and attempt == current - 1 then
        verdict = 'Q'
      elseif attempt < current then
        verdict, again = 'O', true
      elseif attempt == current and not (phase == 'P' and (kind == 2 or kind == 4)) then
        changes = true
        if phase == 'R' then owed = owed - 1 end
        if kind == 4 then
          now[node] = 'P'
          verdict = 'P'
        else
          fields[count + 1], fields[count + 2] = 'o' .. node, ARGV[arg + i]
          count = count + 2
          if kind == 2 then
            if current == 1 then retried = retried + 1 end
            now[node], retries[node], owed = 'R', current + 1, owed + 1
            verdict = 'Y'
          else
            open, ended_leaves = open - 1, ended_leaves + 1
            verdict = 'A'
            if kind == 0 then
              now[node] = 'S'
              left = left - is_output
              count_all(list, from, to)
            else
              now[node] = 'F'
              if close_all(node, list, from, to) then failed = node end
            end
            if joins[1] then work_off() end
          end
        end
      end
    end
    verdicts[i] = verdict
  end

  -- What was composed in advance goes to its queue now. After a duplicate nobody knows from which outcome it
  -- was.
  local ranges, message = released, arg + completions
  if prepared > 0 and not again then
    local is_queued = false
    for i = 1, prepared do
      local node, queue = numbers[at + 2 * i - 2], first_queue + numbers[at + 2 * i - 1]
      -- What this same step has ended or released once more is not owed.
      local is_owed = not retries[node] and (now[node] == 'R' or not now[node] and is_wide(node))
      if is_owed and not strange[queue] then
        redis.call('XADD', KEYS[queue], '*', 'm', ARGV[message + i])
        used[queue] = (used[queue] or 0) + 1
        now[node], owed, is_queued = 'D', owed - 1, true
      end
    end
    if is_queued then ranges = ranges_left() end
  end
  at = at + 2 * prepared

  local list = {}
  if changes then
    for node, attempt in pairs(retries) do
      list[#list + 1], list[#list + 2] = node, attempt
      fields[count + 1], fields[count + 2] = 'a' .. node, attempt .. ''
      count = count + 2
    end
    for scope, node in pairs(closed) do
      fields[count + 1], fields[count + 2] = 'x' .. scope, node .. ''
      count = count + 2
    end
    local gone
    for node, seen in pairs(counted) do
      if seen == 0 then
        gone = gone or {}
        gone[#gone + 1] = 'c' .. node
      else
        fields[count + 1], fields[count + 2] = 'c' .. node, seen .. ''
        count = count + 2
      end
    end
    fields[1], fields[2] = 'm', struct.pack(META, FORMAT, nodes, open, owed, left, failed, ended_leaves, expected, retried,
      retention, version + 1, plan, incarnation)
    fields[3], fields[4] = 's', write_states()
    -- The states may have a key of their own.
    if not fields[4] then fields[3], fields[4] = 'm', fields[2] end
    for from = 1, count, 1000 do
      redis.call('HSET', hash, unpack(fields, from, math.min(from + 999, count)))
    end
    for from = 1, gone and #gone or 0, 1000 do
      redis.call('HDEL', hash, unpack(gone, from, math.min(from + 999, #gone)))
    end
  end

  local flags = 0
  if undecided and (left == 0 or failed ~= 0) then flags = flags + DECIDED end
  if open == 0 then
    flags = flags + ENDED
    if open_before > 0 then
      flags = flags + CLOSED
      if ended_key and retention > 0 then
        ended[#ended + 1] = due(retention)
        ended[#ended + 1] = run
      end
    end
  end
  if changes then
    local hint, where = string.sub(run, 1, 16), channel
    -- Who waits for the run's value hears of nothing else, and mostly of the value: see `news.rs`.
    if flags > 0 then
      local news = ''
      if undecided and left == 0 and completions == 1 and #fields[6] <= NEWS_BYTES_MAX then
        news = fields[2] .. struct.pack('>I4', numbers[first]) .. fields[6]
      end
      hint, where = hint .. struct.pack('>I2', #news) .. news, 'd' .. channel
    end
    changed[where] = changed[where] and changed[where] .. hint or hint
  end
  local is_done = not ranges[1] and not list[1]
  if ended_key and events > 0 and is_done and not (again and owed > 0) then
    flags = flags + ACKNOWLEDGED
    local id = message + prepared
    for i = 1, events do
      local line = acks[numbers[at + i - 1]]
      line[#line + 1] = ARGV[id + i]
    end
  end
  local answer = struct.pack('>BI4I8', flags, owed, retention) .. table.concat(verdicts, '', 1, completions)
  return is_done and answer or answer .. cmsgpack.pack({ ranges, list })
end

if ended_key then redis.call('ZCARD', ended_key) end
local answers, at, arg = {}, 1, 6
for i = 1, runs do
  local run, channel = ARGV[arg], ARGV[arg + 1]
  hash, states = KEYS[2 * i - 1], KEYS[2 * i]
  local ok, answer = pcall(settle, run, channel, at, arg + 1)
  if not ok then answer = 'CORRUPT ' .. tostring(type(answer) == 'table' and answer.err or answer) end
  answers[i] = answer
  arg = arg + 2 + numbers[at + 2] + numbers[at + 3] + numbers[at + 4]
  at = at + 1 + numbers[at]
end

if ended[1] then redis.call('ZADD', ended_key, unpack(ended)) end
for i, ids in ipairs(acks) do
  if ids[1] then
    local is_removed, why = pcall(remove, KEYS[first_line + i - 1], group, ids)
    local text = not is_removed and (type(why) == 'table' and why.err or tostring(why))
    -- In a line that is something else nothing is left to acknowledge.
    if text and not string.find(text, 'WRONGTYPE', 1, true) then
      return type(why) == 'table' and why or redis.error_reply(text)
    end
  end
end
for queue, count in pairs(used) do wake(KEYS[queue], count) end
for channel, ids in pairs(changed) do redis.pcall('PUBLISH', channels .. channel, ids) end
return answers
