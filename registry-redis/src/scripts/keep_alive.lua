-- Renews leases for their whole ttls. O(L log N) for L of them.
--
-- ARGV: from 3 on, for each lease: member, '<mrev> <lease> <ttl> ' as its value in inst begins, ttl.
-- Reply: OK or LOST for each.
--
-- A lease whose record was written at another revision than the one last acknowledged is lost, though
-- it may still stand: a rollback has undone the acknowledged write.

local INST = KEYS[2]
local reaped = fresh or reap()
local replies = {}
for i = 3, #ARGV, 3 do
  local member, begins, reply = ARGV[i], ARGV[i + 1], 'LOST'
  if not fresh then
    if not reaped then
      writer().settle(member)
    end
    local value = redis.call('HGET', INST, member)
    if value and string.sub(value, 1, #begins) == begins then
      renew(member, ARGV[i + 2])
      reply = 'OK'
    end
  end
  replies[#replies + 1] = reply
end
return replies
