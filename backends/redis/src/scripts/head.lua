-- A message starts with the task id, the attempt and the run's incarnation; so does a report.
local HEAD = 16 + 4 + 8
local function run_of(message) return string.sub(message, HEAD - 7, HEAD) end
