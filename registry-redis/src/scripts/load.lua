-- Reads all records of a service as of one revision. O(log N + M) for M of them.
--
-- ARGV: 3 service, 4 seed.
-- Reply: { OK, rev, digest, members, values } | { DUE, ... }: call again, since more leases are due
-- than one call lets expire, and what is due must not be shown.

if fresh then
  create(ARGV[4])
end
if not reap() then
  return { 'DUE', '0', '', {}, {} }
end

local service = ARGV[3]
local members =
  redis.call('ZRANGEBYLEX', IDX, '[' .. service .. '\31', '(' .. service .. '\32')
local values = {}
for i = 1, #members, 1000 do -- Lua's stack does not take more than some 8,000
  local page =
    redis.call('HMGET', INST, unpack(members, i, math.min(i + 999, #members)))
  for j = 1, #page do
    values[i + j - 1] = page[j]
  end
end
return { 'OK', num(rev), dig, members, values }
