-- Checks that the history of a shard contains a position, and reads the entries after it.
-- O(log N + P) for a page of P entries.
--
-- ARGV: 5 revision, 6 digest, 7 the page's length.
-- Reply: { OK | COMPACTED | DIVERGED, ms until the next lease expires or -1, revision, lineage, entries }
--
-- A shard that lost a key is DIVERGED: its records are not those that were put. The next load begins a new
-- history. The first entry contains the digest before it: the caller compares it.
-- Like all scripts this one deletes expired leases first: watching processes call it when one expires.

if not is_whole then
  return { 'DIVERGED', '-1', '0', '', {} }
end

local at, at_digest = tonumber(ARGV[5]), ARGV[6]
local status, entries = 'OK', {}
local last = tonumber(revision)
if at > last or (at == last and at_digest ~= digest) then
  status = 'DIVERGED'
elseif at < last then
  local next_id = num(at + 1) .. '-0'
  entries = redis.call('XRANGE', LOG, next_id, '+', 'COUNT', ARGV[7])
  if not entries[1] or entries[1][1] ~= next_id then
    status, entries = 'COMPACTED', {}
  end
end

return { status, ms_to_expiry, revision, lineage, entries }
