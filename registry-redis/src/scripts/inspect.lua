-- Reports the state of a shard. O(log N).
--
-- ARGV: none of its own.
-- Reply: { FRESH | WHOLE | DAMAGED, revision, the first revision in the log or '0' }

if is_new then
  return { 'FRESH', '0', '0' }
end
local first = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
return {
  is_whole and 'WHOLE' or 'DAMAGED',
  revision,
  first and string.match(first[1], '^%d+') or '0',
}
