-- A part of some scripts. Repairs a shard whose keys have fewer entries than meta says, or whose members do not all
-- have the score 0: then they are in no order, and a range of them may lack any. (The state has meta and
-- leases, too, but the lease of a record that somebody overwrote may be in use for another.) O(1).
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

