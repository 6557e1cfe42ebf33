-- Registers a record under a lease, for a ttl from now. O(log N).
--
-- ARGV: 3 member, 4 lease, 5 ttl in ms, 6 the holder to take over from, 7 record. A holder is '<lease>
-- <claimed>', '- -' for a value of another program, or '' for no takeover.
-- Reply: { OK, revision, digest } | { SUPERSEDED, lease, claimed } with the holder, '' if unknown | {
-- INVALID, 'ttl' or 'instance', '' } with what differs
--
-- A repeated call creates no revision: it finds its own record and only renews it.

local member, lease, ttl, record = ARGV[3], ARGV[4], ARGV[5], ARGV[7]
local current, other = found[2], found[3]
if other and other ~= member then
  local _, _, of_other = parse(redis.call('HGET', STATE, other))
  if of_other == lease then
    return { 'INVALID', 'instance', '' }
  end
end

local at, proof, holder, current_ttl, claimed, start = parse(current)
local deadline = lease_now + ttl
if holder == lease then
  if current_ttl ~= ttl then
    return { 'INVALID', 'ttl', '' }
  end
  if string.sub(current, start) == record then
    redis.call('ZADD', EXP, num(deadline), member)
    save_deadline(deadline)
    return { 'OK', at, proof }
  end
elseif current and ARGV[6] ~= (holder or '-') .. ' ' .. (claimed or '-') then
  return { 'SUPERSEDED', holder or '', claimed or '' }
else
  claimed = num(revision + 1)
end

local commit, _, _, create = writer()
if is_new then
  create()
end
deadline = num(deadline)
local value = lease .. ' ' .. ttl .. ' ' .. claimed .. ' ' .. record
commit('P', member, value)
redis.call('ZADD', EXP, deadline, member)
if redis.call('ZADD', IDX, 0, member) == 1 then
  count = num(count + 1)
end
if tonumber(deadline) < tonumber(due) then
  due = deadline
end
save(member, revision .. ' ' .. digest .. ' ' .. value, lease, member)
if holder and holder ~= lease then
  redis.call('HDEL', STATE, holder)
end
return { 'OK', revision, digest }
