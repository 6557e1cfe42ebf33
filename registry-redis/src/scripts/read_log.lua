-- Checks that the history of a shard contains a position, and reads the next entry. O(log N).
--
-- ARGV: 5 revision, 6 digest.
-- Reply: { OK | COMPACTED | DIVERGED, ms until the next lease expires or -1, revision, lineage, entries: at
-- most one }
--
-- The entry contains the digest before it, which the caller compares.
-- Like all scripts, this one deletes expired leases first: watching processes call it when a lease expires.

if is_new then
  return { 'DIVERGED', '-1', '0', '', {} }
end

local at, at_digest = tonumber(ARGV[5]), ARGV[6]
local status, entries = 'OK', {}
local last = tonumber(revision)
local ahead = redis.pcall('XRANGE', LOG, num(last + 1) .. '-0', '+', 'COUNT', 1)
if ahead.err or ahead[1] then -- written by another program
  local _, _, _, _, _, clean_log = writer()
  clean_log()
end
if at > last or (at == last and at_digest ~= digest) then
  status = 'DIVERGED'
elseif at < last then
  local next_id = num(at + 1) .. '-0'
  entries = redis.call('XRANGE', LOG, next_id, '+', 'COUNT', 1)
  if not entries[1] or entries[1][1] ~= next_id then
    status, entries = 'COMPACTED', {}
  end
end

return { status, ms_to_expiry, revision, lineage, entries }
