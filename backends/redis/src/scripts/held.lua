-- Who holds an entry, as a consumer, and its number; nothing when nobody does. The number is 1 after the
-- first delivery. What has lost its owner has an even one, twice as much as it has begun in others; while it
-- has begun with its owner, one more. '-' holds what was handed back or has lost one owner, '~' the suspects
-- that wait.
local function held(stream, group, id)
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if pending.err or not pending[1] then return nil, 0 end
  return pending[1][2], pending[1][4]
end

local function owner_of(consumer) return consumer and string.match(consumer, '^(.*)#%d+$') end
