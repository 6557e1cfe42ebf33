-- Part of some scripts. Computes the ms until the next lease of the shard expires, or -1 if it has none.
-- O(log N).
local ms_to_expiry = '-1'
do
  local first = redis.call('ZRANGE', EXP, 0, 0, 'WITHSCORES')
  if first[2] then
    ms_to_expiry = num(math.max(0, tonumber(first[2]) - lease_now + 1))
  end
end

