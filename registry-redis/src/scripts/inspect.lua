-- Says how a shard is, and changes nothing but the clock. O(log N).
--
-- ARGV: none of its own.
-- Reply: { FRESH | WHOLE | DAMAGED, rev, the first revision that the log holds or '0' }

if fresh then
  return { 'FRESH', '0', '0' }
end
local first = redis.call('XRANGE', KEYS[7], '-', '+', 'COUNT', 1)[1]
return { is_whole() and 'WHOLE' or 'DAMAGED', rev, first and string.match(first[1], '^%d+') or '0' }
