-- Queues a message, or keeps it until its time has come; notes when it expires. The time is 0 for at once, 1 for ms from
-- now, 2 for ms since 1970. Whether it is queued. `first_timers` is the first time that was set for each stream.
local clock
local first_timers = {}
local function set_timer(stream, at) first_timers[stream] = math.min(first_timers[stream] or math.huge, at) end
local function put(stream, delayed, expiring, message, kind, ms, expires)
  if expires > 0 then
    redis.call('ZADD', expiring, expires, string.sub(message, 1, HEAD))
    set_timer(stream, expires)
  end
  if kind > 0 then
    if not clock then
      local time = redis.call('TIME')
      clock = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    -- Now may be up to a millisecond later: never early.
    local due = kind == 1 and clock + ms + 1 or ms
    if due > clock then
      redis.call('ZADD', delayed, due, message)
      set_timer(stream, due)
      return false
    end
  end
  redis.call('XADD', stream, '*', 'm', message)
  return true
end
