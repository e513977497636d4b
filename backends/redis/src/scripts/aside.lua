#!lua flags=allow-oom
-- Moves keys of everybody aside that hold something else than what is kept there: all goes on without.
-- KEYS: these keys    ARGV: what each should hold
-- Returns each that was moved, and where it is now, in the same slot.
local time = redis.call('TIME')
local now, moved = time[1] * 1000 + math.floor(time[2] / 1000), {}
for i, key in ipairs(KEYS) do
  local holds = redis.call('TYPE', key).ok
  if holds ~= 'none' and holds ~= ARGV[i] then
    local place = key .. ':aside:' .. now
    redis.call('RENAME', key, place)
    moved[#moved + 1], moved[#moved + 2] = key, place
  end
end
return moved
