-- Renews leases for their whole ttls. O(L log N) for L of them.
--
-- ARGV: from 3 on, for each lease: member, lease, mrev.
-- Reply: OK or LOST for each.
--
-- A lease whose record was written at another revision than the one last acknowledged is lost, though
-- it may still stand: a rollback has undone the acknowledged write.

local reaped = fresh or reap()
local replies, renewed = {}, false
for i = 3, #ARGV, 3 do
  local member, reply = ARGV[i], 'LOST'
  if not fresh then
    if not reaped then
      settle(member)
    end
    local mrev, holder, ttl = parse(redis.call('HGET', INST, member))
    if holder == ARGV[i + 1] and mrev == ARGV[i + 2] then
      renew(member, ttl)
      reply, renewed = 'OK', true
    end
  end
  replies[#replies + 1] = reply
end
if renewed then
  save_clock()
end
return replies
