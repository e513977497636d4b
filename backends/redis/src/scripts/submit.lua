#!lua
-- Makes small runs visible, each with all that belongs to it and its first leaves in their queues, or not at
-- all.
-- KEYS: the hash of each run | on one Redis also: runs, submissions, ended, the stream of each queue,
--       the hashes of the runs to which segments belong
-- ARGV: how many runs, the latest time by the clock of Redis in ms (empty: none), then for each run:
--       its id and incarnation, retention in ms when it has ended already (else empty), whether to announce
--       it, whether to list it, of a segment the place of its run among the keys (else 0), how many fields,
--       the fields and values, how many leaves, place of the queue and message of each leaf
-- Returns for each run 1 when it is new, 0 when there is one with this id, 2 when it is a segment and its run
-- is gone, or what is wrong.
local count = tonumber(ARGV[1])
local runs, submissions, ended = KEYS[count + 1], KEYS[count + 2], KEYS[count + 3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] ~= '' and now > tonumber(ARGV[2]) then return redis.error_reply('TRYAGAIN the submission took too long') end
if runs then
  redis.call('ZCARD', runs)
  redis.call('ZCARD', ended)
  redis.call('XLEN', submissions)
end

-- Nearly always none of them is there, and one look tells so; else each is looked at.
local is_any = redis.call('EXISTS', unpack(KEYS, 1, count)) > 0
local answers, names, used, written, queued, announced, at = {}, {}, {}, {}, {}, false, 3
for i = 1, count do
  local id, retention, announce, listed, root, fields = unpack(ARGV, at, at + 5)
  local after = at + 6 + 2 * tonumber(fields)
  local leaves = tonumber(ARGV[after])
  local key, known, is_gone = KEYS[i], 0, false
  if is_any or written[key] then known = redis.pcall('HLEN', key) end
  if root ~= '0' then
    local m = redis.pcall('HGET', KEYS[tonumber(root)], 'm')
    if type(m) == 'table' then
      known = m
    elseif not m or incarnation_of(m) ~= string.sub(id, 17) then
      is_gone = true
    end
  end
  local event
  if known == 0 and not is_gone and announce == '1' then
    -- First, since it may be refused: then nothing else of the run is written.
    event = redis.pcall('XADD', submissions, '*', 's', id)
    if type(event) == 'table' then known = { err = event.err .. ' (' .. submissions .. ')' } end
  end
  if known == 0 and not is_gone then
    written[key] = true
    redis.call('HSET', key, unpack(ARGV, at + 6, after - 1))
    local there = 0
    for leaf = after + 1, after + 2 * leaves, 2 do
      local queue = tonumber(ARGV[leaf])
      local entry = redis.pcall('XADD', KEYS[count + 3 + queue], '*', 'm', ARGV[leaf + 1])
      if type(entry) == 'table' then
        known = { err = entry.err .. ' (' .. KEYS[count + 3 + queue] .. ')' }
        break
      end
      there = there + 1
      queued[there] = entry
      used[queue] = (used[queue] or 0) + 1
    end
    if known ~= 0 then
      -- The run stands or falls alone, and whole.
      redis.call('UNLINK', key)
      if event then redis.call('XDEL', submissions, event) end
      for n = 1, there do
        local queue = tonumber(ARGV[after - 1 + 2 * n])
        redis.call('XDEL', KEYS[count + 3 + queue], queued[n])
        used[queue] = used[queue] > 1 and used[queue] - 1 or nil
      end
    end
  end
  if known == 0 and not is_gone then
    announced = announced or announce == '1'
    if ended and retention ~= '' then redis.call('ZADD', ended, now + tonumber(retention), id) end
    if listed == '1' then
      -- As text: numbers are slow to pass.
      names[#names + 1] = '0'
      names[#names + 1] = id
    end
  end
  answers[i] = type(known) == 'table' and known.err or is_gone and 2 or known == 0 and 1 or 0
  at = after + 1 + 2 * leaves
end
if runs and #names > 0 then redis.call('ZADD', runs, unpack(names)) end
for queue, leaves in pairs(used) do wake(KEYS[count + 3 + queue], leaves) end
if announced then redis.pcall('PUBLISH', submissions, '') end
return answers
