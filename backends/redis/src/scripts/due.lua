#!lua flags=no-writes
-- Which lanes have timers that are due.
-- KEYS: the index of timers    ARGV: slice
-- Returns the time in ms, when the first after those is due (-1: there is none), and the streams of the lanes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local next = redis.call('ZRANGE', KEYS[1], #due, #due, 'WITHSCORES')[2]
return { now, next and tonumber(next) or -1, due }
