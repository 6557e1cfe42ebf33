-- The part of load.lua for a reader, which deletes nothing: a record whose lease has expired is not shown.
for i = #members, 1, -1 do
  local deadline = redis.call('ZSCORE', EXP, members[i])
  if deadline and tonumber(deadline) < lease_now then
    table.remove(members, i)
    table.remove(values, i)
  end
end
