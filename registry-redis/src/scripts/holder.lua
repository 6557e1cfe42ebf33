-- Returns the holder of an id, as register.lua names it. O(log N).
--
-- ARGV: 3 member.
-- Reply: { HELD, lease, claimed }: '' for unknown | { VACANT, '', '' }
--
-- In a shard that lost a key every id is vacant: the next registration begins a new history.

local current = is_whole and found[2]
if not current then
  return { 'VACANT', '', '' }
end
local _, _, holder, _, claimed = parse(current)
return { 'HELD', holder or '', claimed or '' }
