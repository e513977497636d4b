-- Marks a leaf that runs once at most as begun, unless it is marked already. The attempt is four bytes.
-- Returns 1 when this delivery has begun it, 3 when this entry was begun by another worker, 4 when another entry or
-- attempt was, or when there is no such run.
local function mark(hash, field, attempt, incarnation, entry, worker)
  local m, known = unpack(redis.call('HMGET', hash, 'm', field))
  if not m or incarnation_of(m) ~= incarnation then return 4 end
  if known and string.sub(known, 1, 4) >= attempt then
    local of_entry = attempt .. entry .. '\0'
    if string.sub(known, 1, #of_entry) ~= of_entry then return 4 end
    return string.sub(known, #of_entry + 1) == worker and 1 or 3
  end
  redis.call('HSET', hash, field, attempt .. entry .. '\0' .. worker)
  return 1
end
