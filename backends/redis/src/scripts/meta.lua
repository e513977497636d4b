-- What changes of a run with every step, packed: see `meta.rs`.
local META, FORMAT, LATER_MAX = '>BI4I4I4I4I4I4I4I4I8I8c16c8', 2, 31
local function wrong_format(m)
  local format = string.byte(m) or 0
  if format == FORMAT then return end
  return (format > FORMAT and format <= LATER_MAX and 'LATER' or 'CORRUPT') .. ' the run has format ' .. format .. ', this program knows format ' .. FORMAT
end
local function incarnation_of(m) return string.sub(m, -8) end
