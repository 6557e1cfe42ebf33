-- A part of some scripts. Whether the shard has all its keys: none has fewer entries than meta says. (The state
-- has meta and leases, too, but the lease of a record that somebody overwrote may be in use for another.) O(1).
local is_whole = not is_new
  and redis.call('HLEN', STATE) > tonumber(count)
  and redis.call('ZCARD', IDX) >= tonumber(count)
  and redis.call('ZCARD', EXP) >= tonumber(count)

