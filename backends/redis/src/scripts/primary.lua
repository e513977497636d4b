#!lua flags=allow-oom
-- Does nothing, as one who may write: a replica refuses it.
return 1
