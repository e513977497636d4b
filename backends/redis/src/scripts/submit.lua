#!lua
-- Makes small runs visible, each with all that belongs to it and its first leaves in their queues, or not at all.
-- KEYS: the hash of each run | on one Redis also: runs, submissions, ended, the stream of each queue
-- ARGV: how many runs, the latest time by the clock of Redis in ms (empty: none), then for each run: its id in bytes,
--       retention in ms when it has ended already (else empty), whether to announce it, how many fields, the fields
--       and values (the first is m), how many leaves, place of the queue and message of each leaf
-- Returns for each run 1 when it is new, 0 when there is one with this id, or what is wrong.
local count = tonumber(ARGV[1])
local runs, submissions, ended = KEYS[count + 1], KEYS[count + 2], KEYS[count + 3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] ~= '' and now > tonumber(ARGV[2]) then return redis.error_reply('TRYAGAIN the submission took too long') end
if runs then
  redis.call('ZCARD', runs)
  redis.call('ZCARD', ended)
end

local answers, names, used, announced, at = {}, {}, {}, false, 3
for i = 1, count do
  local id, retention, announce, fields = unpack(ARGV, at, at + 3)
  local after = at + 4 + 2 * tonumber(fields)
  local leaves = tonumber(ARGV[after])
  local is_new = redis.pcall('HSETNX', KEYS[i], ARGV[at + 4], ARGV[at + 5])
  if is_new == 1 then
    redis.call('HSET', KEYS[i], unpack(ARGV, at + 6, after - 1))
    for leaf = after + 1, after + 2 * leaves, 2 do
      local queue = tonumber(ARGV[leaf])
      redis.call('XADD', KEYS[count + 3 + queue], '*', 'm', ARGV[leaf + 1])
      used[queue] = true
    end
    if announce == '1' then
      redis.call('XADD', submissions, '*', 's', id)
      announced = true
    end
    if ended and retention ~= '' then redis.call('ZADD', ended, now + tonumber(retention), id) end
    names[#names + 1] = 0
    names[#names + 1] = id
  end
  answers[i] = type(is_new) == 'table' and is_new.err or is_new
  at = after + 1 + 2 * leaves
end
if runs and #names > 0 then redis.call('ZADD', runs, unpack(names)) end
for queue in pairs(used) do redis.pcall('PUBLISH', KEYS[count + 3 + queue], '') end
if announced then redis.pcall('PUBLISH', submissions, '') end
return answers
