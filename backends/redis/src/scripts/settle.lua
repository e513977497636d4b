#!lua flags=allow-oom
-- Applies completions to runs: the transition table of the engine's `advance`, on packed states. Each run is
-- settled whole or, when something stored is broken, not at all; one that is broken does not hold up the
-- others.
-- KEYS: hash and states of each run | on one Redis also: ended, the stream of each line of events, the
--       stream of each queue
-- ARGV: how many runs, how many lines, the group, what the channels of changes start with, then for
--       each run: its id and incarnation, its channel, whether the caller knows the plan as 0 or 1,
--       completions, their outcomes, prepared leaves as node and place of its queue, one after the other
--       (empty: none), their messages, how many events, place of the line and id of each event
-- A completion is {node, attempt, kind, is output, who waits}, kinds: 0 success, 1 failure, 2 retry, 3 not a
-- leaf, 4 replace; of a failure, who waits is a list of scopes {scope, does it go on, who waits for it}.
-- Nodes that wait are written {first, how many, initial counter, is join}, one after the other: neighbours
-- that wait for one thing each are released together. Who does not know the plan leaves out all after the
-- kind.
-- Returns for each run what became of it: see `settle.rs`.
local WINDOW = 16384
local DECIDED, ENDED, CLOSED, ACKNOWLEDGED = 1, 2, 4, 8

local runs, lines, group, channels = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local ended_key = KEYS[2 * runs + 1]
local first_line = 2 * runs + 2
local first_queue = first_line + lines - 1
local time, times = nil, {}
local ended, changed, used, acks = {}, {}, {}, {}
if ended_key then
  for i = 1, lines do acks[i] = {} end
  for i = first_queue + 1, #KEYS do redis.call('XLEN', KEYS[i]) end
end

-- The run that is being settled. The functions below are made once for all runs of a call.
local hash, states, inline, chunk, base, open, owed, left
local now, wide, released, joins, counted

-- When what is kept for so long from now on is to go. As text: numbers are slow to pass, and most are kept as
-- long.
local function due(retention)
  if not times[retention] then
    time = time or redis.call('TIME')
    times[retention] = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + retention)
  end
  return times[retention]
end

local function state_of(node)
  if now[node] then return now[node] end
  for i = 1, #wide, 2 do
    if node >= wide[i] and node < wide[i] + wide[i + 1] then return 'R' end
  end
  local place = node - base + 1
  if place >= 1 and place <= #chunk then return string.sub(chunk, place, place) end
  return inline and '' or redis.call('GETRANGE', states, node - 1, node - 1)
end

local function release(first, many)
  open, owed = open + many, owed + many
  released[#released + 1] = first
  released[#released + 1] = many
  if many == 1 then
    now[first] = 'R'
  else
    wide[#wide + 1] = first
    wide[#wide + 1] = many
  end
end

local function count(node, initial, is_join)
  local seen = counted[node] or tonumber(redis.call('HGET', hash, 'c' .. node) or 0)
  counted[node] = seen + 1
  if seen + 1 < initial then return end
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
    now[join] = 'S'
    local part = cmsgpack.unpack(redis.call('HGET', hash, 'j' .. join))
    left = left - part[1]
    count_all(part, 2)
  end
end

-- Writes the states that have changed, neighbours together; returns them whole when they are kept with the
-- run.
local function write_states()
  local nodes, text, from, i = {}, {}, 1, 1
  for node in pairs(now) do nodes[#nodes + 1] = node end
  table.sort(nodes)
  for w = 1, #wide, 2 do
    local part = string.rep('R', wide[w + 1])
    if inline then
      inline = string.sub(inline, 1, wide[w] - 1) .. part .. string.sub(inline, wide[w] + wide[w + 1])
    else
      redis.call('SETRANGE', states, wide[w] - 1, part)
    end
  end
  while i <= #nodes do
    local first, part = nodes[i], { now[nodes[i]] }
    while nodes[i + 1] == nodes[i] + 1 do
      i = i + 1
      part[#part + 1] = now[nodes[i]]
    end
    i = i + 1
    if inline then
      text[#text + 1] = string.sub(inline, from, first - 1)
      text[#text + 1] = table.concat(part)
      from = first + #part
    else
      redis.call('SETRANGE', states, first - 1, table.concat(part))
    end
  end
  if not inline then return nil end
  text[#text + 1] = string.sub(inline, from)
  return table.concat(text)
end

local function settle(run, channel, knows_plan, done, first_outcome, prepared, first_message, events, first_event)
  local stored = redis.call('HMGET', hash, 'm', 's', knows_plan and 'm' or 'w')
  local m = stored[1]
  inline = stored[2]
  if not m then return 'UNKNOWN' end
  if wrong_format(m) then return wrong_format(m) end
  local _, nodes, failed, ended_leaves, expected, retried, retention, version, plan, incarnation
  _, nodes, open, owed, left, failed, ended_leaves, expected, retried, retention, version, plan,
    incarnation =
    struct.unpack(META, m)
  local id = string.sub(run, 1, 16)
  -- Of a run that was forgotten, and whose id another one has now.
  if string.sub(run, 17) ~= incarnation then return 'UNKNOWN' end
  local wiring
  if not knows_plan and #done > 0 then
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
  chunk, base = inline, 1
  if not inline then
    local low, high = math.huge, 0
    for _, completion in ipairs(done) do
      if completion[3] ~= 3 then
        low, high = math.min(low, completion[1]), math.max(high, completion[1])
      end
    end
    chunk, base = '', low
    if high >= low and high - low < WINDOW then chunk = redis.call('GETRANGE', states, low - 1, high - 1) end
  end
  now, wide, released, joins, counted = {}, {}, {}, {}, {}
  local retries, list, closed, fields = {}, {}, {}, { 'm', '', 's', '' }
  local verdicts, again, changes = {}, false, false

  for i = 1, #done do
    local completion = done[i]
    local node, attempt, kind, is_output, waiting =
      completion[1], completion[2], completion[3], completion[4], completion[5]
    if wiring then
      local known = wiring[node]
      if type(known) ~= 'table' then
        kind = 3
      else
        is_output, waiting = known[1], known[2 + kind]
      end
    -- A run that has ended releases nothing any more: it is enough to know what is no leaf.
    elseif not knows_plan and redis.call('HEXISTS', hash, 'j' .. node) == 1 then
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
        elseif kind == 2 then
          if current == 1 then retried = retried + 1 end
          now[node], retries[node], owed = 'R', current + 1, owed + 1
          list[#list + 1] = node
          list[#list + 1] = current + 1
          fields[#fields + 1] = 'o' .. node
          fields[#fields + 1] = ARGV[first_outcome + i - 1]
          verdict = 'Y'
        else
          fields[#fields + 1] = 'o' .. node
          fields[#fields + 1] = ARGV[first_outcome + i - 1]
          open, ended_leaves = open - 1, ended_leaves + 1
          verdict = 'A'
          if kind == 0 then
            now[node] = 'S'
            left = left - is_output
            count_all(waiting, 1)
          else
            now[node] = 'F'
            -- A scope that is closed ends the walk: who closed it has closed all above it.
            for _, scope in ipairs(waiting) do
              local number = scope[1]
              if closed[number] or redis.call('HEXISTS', hash, 'x' .. number) == 1 then break end
              closed[number] = node
              if number == 0 then failed = node end
              count_all(scope[3], 1)
            end
          end
          work_off()
        end
      end
    end
    verdicts[i] = verdict
  end

  -- What was composed in advance goes to its queue now. After a duplicate nobody knows from which outcome it
  -- was.
  local ranges = released
  if #prepared > 0 and not again then
    local fresh = {}
    for i = 1, #released, 2 do
      for node = released[i], released[i] + released[i + 1] - 1 do fresh[node] = true end
    end
    for i = 1, #prepared, 2 do
      local node = prepared[i]
      -- What this same step has ended or released once more is not owed.
      if fresh[node] and (now[node] or 'R') == 'R' and not retries[node] then
        local queue = first_queue + prepared[i + 1]
        redis.call('XADD', KEYS[queue], '*', 'm', ARGV[first_message + (i - 1) / 2])
        used[queue] = (used[queue] or 0) + 1
        now[node], owed = 'D', owed - 1
      end
      fresh[node] = nil
    end
    ranges = {}
    for i = 1, #released, 2 do
      for node = released[i], released[i] + released[i + 1] - 1 do
        if fresh[node] then
          ranges[#ranges + 1] = node
          ranges[#ranges + 1] = 1
        end
      end
    end
  end

  if changes then
    local gone = {}
    for node, attempt in pairs(retries) do
      fields[#fields + 1] = 'a' .. node
      fields[#fields + 1] = attempt
    end
    for scope, node in pairs(closed) do
      fields[#fields + 1] = 'x' .. scope
      fields[#fields + 1] = node
    end
    for node, seen in pairs(counted) do
      if seen == 0 then
        gone[#gone + 1] = 'c' .. node
      else
        fields[#fields + 1] = 'c' .. node
        fields[#fields + 1] = seen
      end
    end
    fields[2] = struct.pack(META, FORMAT, nodes, open, owed, left, failed, ended_leaves, expected, retried, retention,
      version + 1, plan, incarnation)
    local text = write_states()
    if text then
      fields[4] = text
    else
      -- The states have a key of their own.
      fields[3], fields[4] = 'm', fields[2]
    end
    for from = 1, #fields, 1000 do
      redis.call('HSET', hash, unpack(fields, from, math.min(from + 999, #fields)))
    end
    for from = 1, #gone, 1000 do
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
    -- The last byte of an id is zero. Here it tells whether who waits for the run's value should look.
    local hint = flags > 0 and string.sub(id, 1, 15) .. '\1' or id
    changed[channel] = (changed[channel] or '') .. hint
  end
  if ended_key and events > 0 and #ranges == 0 and #list == 0 and not (again and owed > 0) then
    flags = flags + ACKNOWLEDGED
    for i = first_event, first_event + 2 * events - 1, 2 do
      local line = acks[tonumber(ARGV[i])]
      line[#line + 1] = ARGV[i + 1]
    end
  end
  return cmsgpack.pack({ table.concat(verdicts), flags, owed, retention, ranges, list })
end

local answers, at, nothing = {}, 5, {}
for i = 1, runs do
  local run, channel, knows_plan = ARGV[at], ARGV[at + 1], ARGV[at + 2] == '1'
  local done = cmsgpack.unpack(ARGV[at + 3])
  local first_outcome = at + 4
  local after = first_outcome + #done
  local prepared = ARGV[after] == '' and nothing or cmsgpack.unpack(ARGV[after])
  local first_message = after + 1
  local count_at = first_message + #prepared / 2
  local events = tonumber(ARGV[count_at])
  hash, states = KEYS[2 * i - 1], KEYS[2 * i]
  local ok, answer = pcall(settle, run, channel, knows_plan, done, first_outcome, prepared, first_message, events,
    count_at + 1)
  if not ok then answer = 'CORRUPT ' .. tostring(type(answer) == 'table' and answer.err or answer) end
  answers[i] = answer
  at = count_at + 1 + 2 * events
end

if #ended > 0 then redis.call('ZADD', ended_key, unpack(ended)) end
for i, ids in ipairs(acks) do
  if #ids > 0 then
    local stream = KEYS[first_line + i - 1]
    remove(stream, group, ids)
  end
end
for queue, count in pairs(used) do wake(KEYS[queue], count) end
for channel, ids in pairs(changed) do redis.pcall('PUBLISH', channels .. channel, ids) end
return answers
