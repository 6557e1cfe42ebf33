-- Withdraws what is registered under a lease, whatever that is by now. A successor's record is left
-- alone. O(log N).
--
-- ARGV: 3 lease.
-- Reply: OK

if not fresh then
  reap()
  local member = redis.call('HGET', KEYS[4], ARGV[3])
  if member then
    writer().drop(member)
  end
end
return 'OK'
