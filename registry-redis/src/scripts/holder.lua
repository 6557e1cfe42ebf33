-- Returns the holder of an id, as register.lua does. O(log N).
--
-- ARGV: 3 member.
-- Reply: { HELD, lease, claimed }, each '' if unknown | { VACANT, '', '' }

local current = not is_new and found[2]
if not current then
  return { 'VACANT', '', '' }
end
local _, _, holder, _, claimed = parse(current)
return { 'HELD', holder or '', claimed or '' }
