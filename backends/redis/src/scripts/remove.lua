-- Removes entries that are done with from their stream. What the group has delivered and nobody holds is done with, too:
-- many entries at the head of a stream, which is where they are as a rule, go faster as a range.
local function remove(stream, group, ids)
  -- There is no group when somebody destroyed it: then there is nothing to acknowledge.
  redis.pcall('XACK', stream, group, unpack(ids))
  local held = #ids >= 16 and redis.pcall('XPENDING', stream, group)
  if held and not held.err then
    local from = held[2]
    if not from then
      for _, known in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        local about = {}
        for i = 1, #known, 2 do about[known[i]] = known[i + 1] end
        if about.name == group then
          local ms, seq = string.match(about['last-delivered-id'], '^(%d+)-(%d+)$')
          from = ms .. '-' .. seq + 1
        end
      end
    end
    if from and redis.call('XTRIM', stream, 'MINID', from) == #ids then return end
  end
  redis.call('XDEL', stream, unpack(ids))
end
