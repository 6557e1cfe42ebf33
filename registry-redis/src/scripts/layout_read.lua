-- Returns the layout of a prefix, for a reader. O(1).
--
-- KEYS: layout (see shard.rs), and no others.
-- Reply: { format, number of shards }, or nothing for each

return redis.call('HMGET', KEYS[1], 'format', 'shards')
