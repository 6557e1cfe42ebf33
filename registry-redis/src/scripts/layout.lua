-- Returns the layout of a prefix. The first client determines it. O(1).
--
-- KEYS: layout (see shard.rs), and no others.
-- ARGV: 3 format, 4 number of shards; 1 and 2 are unused.
-- Reply: { format, number of shards }

redis.call('HSETNX', KEYS[1], 'format', ARGV[3])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[4])
return redis.call('HMGET', KEYS[1], 'format', 'shards')
