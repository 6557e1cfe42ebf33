-- Returns the names of a shard's services that have a live instance. O(S) for S of them.
--
-- ARGV: 3 seed, for a shard that lost a key, see load.lua.
-- Reply: { OK, names } | { DUE, ... }: call again, see load.lua.

if is_new then
  return { 'OK', {} }
end
if not delete_expired() then
  return { 'DUE', {} }
end

local names, records = {}, 0
local counts = redis.call('HGETALL', KEYS[6])
for i = 1, #counts, 2 do
  names[#names + 1] = counts[i]
  records = records + counts[i + 1]
end
if records ~= tonumber(count) or not is_whole() then
  writer().create(ARGV[3])
  names = {}
end
return { 'OK', names }
