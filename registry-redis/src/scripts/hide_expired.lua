-- Part of load.lua for readers, which delete nothing: hides records whose lease has expired.
for i = #members, 1, -1 do
  local deadline = redis.call('ZSCORE', EXP, members[i])
  if deadline and tonumber(deadline) < lease_now then
    table.remove(members, i)
    table.remove(values, i)
  end
end
