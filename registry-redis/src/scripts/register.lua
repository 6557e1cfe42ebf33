-- Registers a record under a lease, for a ttl from now. O(log N).
--
-- ARGV: 3 member, 4 lease, 5 ttl in ms, 6 whether it may take over (1 or 0), 7 record, 8 seed.
-- Reply: { OK, mod_revision } | { SUPERSEDED, '' } | { INVALID, 'ttl' or 'instance': what differs }
--
-- A repeated call makes no revision: it finds its own record, and only starts its ttl anew.

local INST, LEASE = KEYS[2], KEYS[4]
local member, lease, ttl, takeover, record, seed =
  ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local shard = writer()
if is_new then
  shard.create(seed)
end
local none_expired = delete_expired()
if not none_expired then
  shard.delete_if_expired(member)
end

local other = redis.call('HGET', LEASE, lease)
if other and other ~= member then
  if not none_expired then
    shard.delete_if_expired(other)
  end
  if redis.call('HEXISTS', LEASE, lease) == 1 then
    return { 'INVALID', 'instance' }
  end
end

local current = redis.call('HGET', INST, member)
local mod_revision, holder, current_ttl, start = parse(current)
if holder == lease then
  if current_ttl ~= ttl then
    return { 'INVALID', 'ttl' }
  end
  if string.sub(current, start) ~= record then
    shard.put(member, lease, ttl, record, current)
    mod_revision = revision
  end
else
  if current and takeover ~= '1' then
    return { 'SUPERSEDED', '' }
  end
  shard.put(member, lease, ttl, record, current)
  mod_revision = revision
  if holder then
    redis.call('HDEL', LEASE, holder)
  end
end
renew(member, ttl)
return { 'OK', mod_revision }
