-- Renews leases for their whole ttls. O(L log L) for L of them.
--
-- ARGV: from 3 on, for each lease: member, '<revision> <digest> <lease> <ttl> ' (the prefix of its value),
-- ttl.
-- Reply: a character per lease: K if it was renewed, L if it is lost.
--
-- A lease is lost if its record is not the last acknowledged one, by revision or history, even if the lease
-- exists: a rollback has undone the acknowledged write.

local outcomes, earliest = '', tonumber(due)
for i = 3, #ARGV, 3 do
  local member, expected, outcome = ARGV[i], ARGV[i + 1], 'L'
  local value = found[2]
  if i > 3 then
    if not none_expired then
      local _, _, remove_if_expired = writer()
      remove_if_expired(member)
    end
    value = redis.call('HGET', STATE, member)
  end
  if value and not is_new and string.sub(value, 1, #expected) == expected then
    local deadline = lease_now + ARGV[i + 2]
    redis.call('ZADD', EXP, num(deadline), member)
    earliest = math.min(earliest, deadline)
    outcome = 'K'
  end
  outcomes = outcomes .. outcome
end
save_deadline(earliest) -- saves nothing for a new shard: it has no lease, and its clock starts now
return outcomes
