-- ARGV: pushes. Answers with place and id of each that is known by another id.
local others = {}
for at = 4, #ARGV, PUSH_FIELDS do
  local id = push(at)
  if id ~= ARGV[at] then others[#others + 1] = {(at - 4) / PUSH_FIELDS, id} end
end
say('LPUSH', values)
return others
