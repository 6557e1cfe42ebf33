-- Renews leases for their whole ttls. O(L log N) for L of them.
--
-- ARGV: from 3 on, for each lease: member, '<mod_revision> <lease> <ttl> ' as its value in inst begins, ttl.
-- Reply: OK or LOST for each.
--
-- A lease is lost if its record was written at another revision than the last acknowledged one, even
-- if the lease exists: a rollback has undone the acknowledged write.

local INST = KEYS[2]
local none_expired = is_new or delete_expired()
local replies = {}
for i = 3, #ARGV, 3 do
  local member, expected, reply = ARGV[i], ARGV[i + 1], 'LOST'
  if not is_new then
    if not none_expired then
      writer().delete_if_expired(member)
    end
    local value = redis.call('HGET', INST, member)
    if value and string.sub(value, 1, #expected) == expected then
      renew(member, ARGV[i + 2])
      reply = 'OK'
    end
  end
  replies[#replies + 1] = reply
end
return replies
