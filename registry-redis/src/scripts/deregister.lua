-- Deletes the record of a lease, whatever it is by now. The record of a successor stays. O(log N).
--
-- ARGV: 3 lease.
-- Reply: OK

if not is_new then
  delete_expired()
  local member = redis.call('HGET', KEYS[4], ARGV[3])
  if member then
    writer().delete(member)
  end
end
return 'OK'
