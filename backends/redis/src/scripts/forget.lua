#!lua flags=allow-oom
-- Removes all that a run owns, in its slot. When leaves of it may be queued, or it has segments,
-- it is marked first: from then on it is as unknown as if it were gone, and its id is free when
-- the rest is gone, too.
-- KEYS: hash, states, plan, segments, literals and texts of the run
-- ARGV: 'ended' (only when nothing of it is left to do), 'any', 'marked' (only when it is marked) or 'rest'
--       (what was marked, now); channel of its hints, what is hinted, its incarnation, what the keys of its
--       texts start with, slice, whether leaves may be queued twice and so be left when it has ended
-- Returns 0 when it is not there or goes on, 1 when it is gone, 2 when it has ended and has segments (nothing
-- was done), 3 when there are more texts to remove, 4 when it is marked, 5 when it is and had ended before;
-- and the names of its queues.
local which, incarnation = ARGV[1], ARGV[4]
local stored = redis.call('HMGET', KEYS[1], 'm', 'f', 'q')
local m, marked, queues = stored[1], stored[2], stored[3]
if m and wrong_format(m) then return redis.error_reply(wrong_format(m)) end
-- Another run has its id.
if m and incarnation_of(m) ~= incarnation or marked and marked ~= incarnation then return { 0 } end
-- Of a small run there is nothing besides its hash.
local is_more = redis.call('EXISTS', unpack(KEYS, 2)) > 0
if which ~= 'rest' then
  if marked then return { redis.call('HEXISTS', KEYS[1], 'e') == 1 and 5 or 4, queues } end
  if which == 'marked' then return { 0 } end
  if m then
    local open, grown = struct.unpack('>I4', m, 6), is_more and redis.call('EXISTS', KEYS[4]) == 1
    if which == 'ended' and open > 0 then return { 0 } end
    if which == 'ended' and grown then return { 2 } end
    if open > 0 or grown or ARGV[7] == '1' then
      redis.call('HSET', KEYS[1], 'f', incarnation)
      -- Whoever goes on with it is to know that, too.
      if open == 0 then redis.call('HSET', KEYS[1], 'e', '1') end
      redis.call('HDEL', KEYS[1], 'm')
      redis.pcall('PUBLISH', ARGV[2], ARGV[3])
      return { open > 0 and 4 or 5, queues }
    end
  end
end
if is_more then
  -- The run itself goes last: who dies in between leaves it to the next time.
  local texts = redis.call('SRANDMEMBER', KEYS[6], ARGV[6])
  for _, name in ipairs(texts) do redis.call('UNLINK', ARGV[5] .. name) end
  -- Only now: on a Cluster a text may just have moved to another node, and then this comes again
  -- there.
  if texts[1] then redis.call('SREM', KEYS[6], unpack(texts)) end
  if #texts == tonumber(ARGV[6]) then return { 3 } end
  redis.call('UNLINK', unpack(KEYS, 2))
end
redis.call('UNLINK', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return { (m or marked) and 1 or 0 }
