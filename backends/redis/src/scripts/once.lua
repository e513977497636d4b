#!lua flags=allow-oom
-- The mark of a leaf that runs once at most, on a Cluster: its run is kept elsewhere than its queue.
-- KEYS: hash of the run    ARGV: field of the mark, attempt, incarnation, entry, worker
return mark(KEYS[1], unpack(ARGV))
