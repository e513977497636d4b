#!lua flags=allow-oom
-- Somebody was woken who does not look: another is woken instead.
-- KEYS: stream
wake(KEYS[1], 1)
return 0
