-- The part of load.lua for a reader, which deletes nothing: a record whose lease has expired is not shown.
for i, member in ipairs(members) do
  local deadline = redis.call('ZSCORE', EXP, member)
  if deadline and tonumber(deadline) < lease_now then
    values[i] = 'expired'
  end
end
