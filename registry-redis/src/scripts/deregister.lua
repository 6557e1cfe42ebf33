-- Deletes the record of a lease, whatever it is by now. The record of a successor stays. O(log N).
--
-- ARGV: 3 member, 4 lease.
-- Reply: OK

local member, value = found[3], found[2]
if member and not is_new then
  if member ~= ARGV[3] then -- the lease has another record than when it was granted
    value = redis.call('HGET', STATE, member)
  end
  local _, _, holder = parse(value)
  if holder == ARGV[4] then
    local _, remove = writer()
    remove(member, 'withdrawn')
    save()
  end
end
return 'OK'
