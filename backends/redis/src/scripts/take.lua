#!lua flags=allow-oom
-- Takes entries of lines, each leased to a consumer: first suspects, then those that were handed back or have
-- lost one owner, then new ones. Leaves of runs that are gone are dropped.
-- KEYS: the streams of the lines, again and apart of each, then what their queues were told of runs
--       that are gone
-- ARGV: group, consumer, how many at most, about how many bytes at most; which suspects: '' none,
--       'one', or 'some': a batch of them and nothing else, counted when they are taken; how many lines;
--       which of them stays when it is empty (0: none); how many to read at first; then, of a worker that is
--       noted or to be noted, its channel, and what to do when it has taken all: 'note', 'all' (also those
--       who are noted, and who was noted long ago is not any more), 'learn' (the same if many listen), or ''
--       (nothing); and its queues as their channels, each after '+' (to be noted), '-' (noted) or '*' (noted,
--       and to be noted again)
-- Returns 1 when there may be more, else 0, or 2 when it was noted, 4 when few listen; then one after the
-- other the place of a line, deliveries, how many entries of it came as often, and id, field and value of
-- each; of a line whose keys hold something else, 0 and 0. Flat, since Redis is slow to return tables in
-- tables.
local group, consumer, max, budget, suspects = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local lines, stays, first = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local taken, count, bytes = { 0 }, 0, 0

local any_gone, is_gone
local function add(line, deliveries, entries)
  local head = #taken + 1
  local n, there = head + 2, #entries
  taken[head], taken[head + 1] = line, deliveries
  for i = 1, #entries do
    local id, fields = entries[i][1], entries[i][2]
    if any_gone and is_gone(fields[2]) then
      redis.call('XACK', KEYS[line], group, id)
      redis.call('XDEL', KEYS[line], id)
      taken[1], there = 1, there - 1
    else
      taken[n + 1], taken[n + 2], taken[n + 3] = id, fields[1], fields[2]
      n, bytes = n + 3, bytes + #fields[2]
    end
  end
  taken[head + 2], count = there, count + there
end

-- One line that is broken holds up no other.
local broken
local function pass_over(line)
  broken = broken or {}
  broken[line] = true
  local n = #taken
  taken[n + 1], taken[n + 2], taken[n + 3] = line, 0, 0
end

-- As a rule nothing was set aside and no run is gone, and one look tells so. Nothing for the other case is
-- made before.
local take_aside
if redis.call('EXISTS', unpack(KEYS, lines + 1)) > 0 then
  -- (parts)
  -- Of entries that are gone, so many are passed over for each line.
  local STALE = 500
  local first_gone = 3 * lines + 1
  any_gone = first_gone <= #KEYS and redis.call('EXISTS', unpack(KEYS, first_gone)) > 0

  function is_gone(message)
    for i = first_gone, #KEYS do
      local score = redis.pcall('ZSCORE', KEYS[i], run_of(message))
      if score and not score.err then return true end
    end
    return false
  end

  -- Takes the next suspect of a line.
  local function take_suspect(line, stream, apart)
    for _ = 1, STALE do
      local id = redis.call('LPOP', apart)
      if not id then return false end
      local owner, number = held(stream, group, id)
      if owner == '~' then
        local after = suspects == 'some' and number + 1 or number
        local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', after)
        if claimed[1] then
          add(line, math.floor(number / 2) + 1, claimed)
          return true
        end
      end
    end
    taken[1] = 1
    return false
  end

  -- With how many others that came as often an event is taken: see `EventDelivery::batch_max`.
  local function batch_max(number)
    local deliveries = math.floor(number / 2) + 1
    return deliveries <= 2 and 64 or deliveries == 3 and 8 or 1
  end

  local function take_batch(line, stream, apart)
    for _ = 1, STALE do
      local id = redis.call('LINDEX', apart, 0)
      if not id or count >= max or bytes >= budget then return end
      local owner, number = held(stream, group, id)
      if owner ~= '~' then
        redis.call('LPOP', apart)
      elseif count >= batch_max(number) then
        return
      else
        take_suspect(line, stream, apart)
      end
    end
  end

  function take_aside(line, stream, again, apart)
    if suspects == 'one' and take_suspect(line, stream, apart) then suspects = '' end
    for _ = 1, STALE + max do
      local id = count < max and bytes < budget and redis.call('LPOP', again)
      if not id then return end
      -- Nothing comes back for an entry that was finished meanwhile, or when the group was made anew: the
      -- next ones still come before all new entries.
      local owner, number = held(stream, group, id)
      if owner == '-' then
        local after = math.max(number, 1)
        local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', after)
        if claimed[1] then add(line, after, claimed) end
      end
    end
  end

  if suspects == 'some' then
    for line = 1, lines do
      if not pcall(take_batch, line, KEYS[line], KEYS[lines + 2 * line]) then pass_over(line) end
    end
    if count > 0 then
      taken[1] = 1
      return taken
    end
  end
end

local missing
for line = 1, lines do
  if count >= max or bytes >= budget then break end
  local stream = KEYS[line]
  if take_aside and not (broken and broken[line])
    and not pcall(take_aside, line, stream, KEYS[lines + 2 * line - 1], KEYS[lines + 2 * line]) then
    pass_over(line)
  end
  -- How large they are nobody knows before they are read: a few, then more.
  -- Those of runs that are gone take no room, but there is an end to them here.
  local room, step, looks = max - count, first, max + 500
  while room > 0 and looks > 0 and bytes < budget do
    if count > 0 then step = math.min(step, math.max(math.floor((budget - bytes) * count / bytes), 1)) end
    local ask = math.min(room, step, looks)
    -- Numbers are slow to pass.
    local text = ask == first and ARGV[8] or ask
    local read = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', text, 'STREAMS', stream, '>')
    if read and read.err then
      -- There is no group yet; or no stream, and then nothing to take: looking does not bring a queue's line
      -- about.
      if line ~= stays and redis.call('EXISTS', stream) == 0 then
        missing = missing or {}
        missing[line] = true
        break
      end
      redis.pcall('XGROUP', 'CREATE', stream, group, 0, 'MKSTREAM')
      read = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', text, 'STREAMS', stream, '>')
      if read and read.err then
        -- Once more, since what is raised says where: of a permission that is missing Redis may say no more.
        if not string.find(read.err, 'WRONGTYPE', 1, true) then
          return redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', text, 'STREAMS', stream, '>')
        end
        if not (broken and broken[line]) then pass_over(line) end
        break
      end
    end
    local entries = read and read[1][2]
    if entries then add(line, 1, entries) end
    if not entries or #entries < ask then break end
    room, step, looks = max - count, step * 8, looks - ask
  end
end
if count >= max or bytes >= budget then taken[1] = 1 end
if not ARGV[9] then return taken end

-- Who has taken all there was and waits for more is noted, in this very step, at those of its queues that
-- there are.
local me, mode = ARGV[9], ARGV[10]
if taken[1] == 1 or mode == '' then
  for i = 11, #ARGV do
    -- Somebody else is to be woken.
    if taken[1] == 1 and string.byte(ARGV[i]) ~= 43 then
      redis.call('ZREM', string.sub(ARGV[i], 2, -7) .. 'idle', me)
    end
  end
  return taken
end
local function is_there(channel)
  if not missing then return true end
  for line = 1, lines do
    if not missing[line] and string.gsub(KEYS[line], '}:l%d+:stream$', '}:stream') == channel then return true end
  end
  return false
end
if mode == 'learn' then
  -- Where few listen they are all woken, which costs less than to note them.
  mode = ''
  for i = 11, #ARGV do
    local channel = string.sub(ARGV[i], 2)
    if mode ~= 'all' and is_there(channel) then
      local listeners = redis.pcall('PUBSUB', 'NUMSUB', channel)
      mode = (listeners.err or listeners[2] > 2) and 'all' or 'few'
    end
  end
  if mode == '' then return taken end
  if mode == 'few' then
    taken[1] = 4
    return taken
  end
end
local time = redis.call('TIME')
local now = time[1] .. string.format('%03d', math.floor(time[2] / 1000))
for i = 11, #ARGV do
  local channel = string.sub(ARGV[i], 2)
  if (mode == 'all' or string.byte(ARGV[i]) ~= 45) and is_there(channel) then
    local idle = string.sub(channel, 1, -7) .. 'idle'
    redis.call('ZADD', idle, now, me)
    -- Who waits says so again before that.
    if mode == 'all' then redis.call('ZREMRANGEBYSCORE', idle, '-inf', '(' .. time[1] - 10 .. '000') end
  end
end
taken[1] = 2
return taken
