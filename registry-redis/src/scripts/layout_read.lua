-- Returns the layout of a prefix, for readers. O(1).
--
-- KEYS: layout (see shard.rs), and no others.
-- Reply: { format, number of shards }, each nil if unset

return redis.call('HMGET', KEYS[1], 'format', 'shards')
