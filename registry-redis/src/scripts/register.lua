-- Registers a record under a lease, for a ttl from now. O(log N).
--
-- ARGV: 3 member, 4 lease, 5 ttl in ms, 6 whether it may take over (1 or 0), 7 record, 8 seed.
-- Reply: { OK, mrev } | { SUPERSEDED, '' } | { INVALID, 'ttl' or 'instance': what the lease is in use with }
--
-- A repeat makes no revision: it finds the record as it wants it, and only starts its ttl anew.

local INST, LEASE = KEYS[2], KEYS[4]
local member, lease, ttl, takeover, record, seed =
  ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local shard = writer()
if fresh then
  shard.create(seed)
end
local reaped = reap()
if not reaped then
  shard.settle(member)
end

local other = redis.call('HGET', LEASE, lease)
if other and other ~= member then
  if not reaped then
    shard.settle(other)
  end
  if redis.call('HEXISTS', LEASE, lease) == 1 then
    return { 'INVALID', 'instance' }
  end
end

local held = redis.call('HGET', INST, member)
local mrev, holder, held_ttl, start = parse(held)
if holder == lease then
  if held_ttl ~= ttl then
    return { 'INVALID', 'ttl' }
  end
  if string.sub(held, start) ~= record then
    shard.put(member, lease, ttl, record, held)
    mrev = rev
  end
else
  if held and takeover ~= '1' then
    return { 'SUPERSEDED', '' }
  end
  shard.put(member, lease, ttl, record, held)
  mrev = rev
  if holder then
    redis.call('HDEL', LEASE, holder)
  end
end
renew(member, ttl)
return { 'OK', mrev }
