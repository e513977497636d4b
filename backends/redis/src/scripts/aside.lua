#!lua flags=allow-oom
-- Moves keys aside that hold something else than what is kept there, or a stream that
-- takes no more entries: all goes on without.
-- KEYS: these keys    ARGV: what each should hold
-- Returns each that was moved, and where it is now, in the same slot.
local time = redis.call('TIME')
local now, moved = time[1] * 1000 + math.floor(time[2] / 1000), {}
local LAST = '18446744073709551615-18446744073709551615'
local function is_full(key)
  local about = redis.call('XINFO', 'STREAM', key)
  for field = 1, #about, 2 do
    if about[field] == 'last-generated-id' then return about[field + 1] == LAST end
  end
end
for i, key in ipairs(KEYS) do
  local holds = redis.call('TYPE', key).ok
  if holds ~= 'none' and (holds ~= ARGV[i] or holds == 'stream' and is_full(key)) then
    local place = key .. ':aside:' .. now
    redis.call('RENAME', key, place)
    moved[#moved + 1], moved[#moved + 2] = key, place
  end
end
return moved
