-- Deletes the record of a lease, even a changed one, but not the record of a successor. O(log N).
--
-- ARGV: 3 member, 4 lease.
-- Reply: OK

local member, value = found[3], found[2]
if member and not is_new then
  if member ~= ARGV[3] then -- the lease now has the record of another instance
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
