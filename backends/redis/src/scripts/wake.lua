-- Wakes so many of those who wait for leaves of a queue, those who have waited longest first: each on its own
-- channel, if so many are noted and each is heard; else all, on the channel of the queue.
local function wake(stream, count)
  local channel = string.find(stream, '}:stream', -8, true) and stream or string.gsub(stream, '}:l%d+:stream$', '}:stream')
  -- More are as quickly told all at once.
  if count <= 64 then
    local idle = string.sub(channel, 1, -7) .. 'idle'
    -- Numbers are slow to pass. A user who may not, or a key that is something else: then all are told.
    local noted = count == 1 and redis.pcall('ZPOPMIN', idle) or redis.pcall('ZPOPMIN', idle, count)
    local heard = 0
    if not noted.err and #noted == 2 * count then
      for i = 1, #noted, 2 do
        if redis.pcall('PUBLISH', noted[i], channel) == 1 then heard = heard + 1 end
      end
    end
    if heard == count then return end
  end
  redis.pcall('PUBLISH', channel, '')
end
