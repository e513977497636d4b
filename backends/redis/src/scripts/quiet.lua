#!lua flags=allow-oom
-- Takes lines of reports that have nothing to give off the index of those that may
-- have.
-- KEYS: the index, then the keys of each line, its stream first    ARGV: group, how many keys a line has, slice
-- Returns which lines are left there, at most a slice of them. One that is broken is left to the sweep.
local width = tonumber(ARGV[2])
local function number(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function is_quiet_now(i)
  local stream, is_quiet = KEYS[i], true
  for list = i + 1, i + width - 1 do
    if redis.call('LLEN', KEYS[list]) > 0 then is_quiet = false end
  end
  local last = is_quiet and redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if last then
    is_quiet = false
    for _, about in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local fields = {}
      for j = 1, #about, 2 do fields[about[j]] = about[j + 1] end
      if fields.name == ARGV[1] then
        local ms, seq = number(last[1])
        local to_ms, to_seq = number(fields['last-delivered-id'])
        is_quiet = ms < to_ms or (ms == to_ms and seq <= to_seq)
      end
    end
  end
  return is_quiet
end
for i = 2, #KEYS, width do
  local ok, is_quiet = pcall(is_quiet_now, i)
  if not ok or is_quiet then redis.call('ZREM', KEYS[1], KEYS[i]) end
end
return redis.call('ZRANGE', KEYS[1], 0, ARGV[3] - 1)
