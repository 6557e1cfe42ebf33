-- Part of some scripts. Repairs a shard whose keys have fewer entries than meta says, or whose members do not
-- all have the score 0: they are then out of order, and a range may miss some. (The state also has meta and
-- leases, but the lease of an overwritten record may be in use by another instance.) O(1).
if not is_new
  and (redis.call('HLEN', STATE) <= tonumber(count)
    or redis.call('ZCARD', IDX) < tonumber(count)
    or redis.call('ZCARD', IDX) > redis.call('ZCOUNT', IDX, 0, 0)
    or redis.call('ZCARD', EXP) < tonumber(count))
then
  local _, _, _, _, repair = writer()
  repair()
  found = redis.call('HMGET', STATE, 'meta', ARGV[3], ARGV[4])
end

