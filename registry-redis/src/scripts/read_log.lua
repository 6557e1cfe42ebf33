-- Checks that a position is still in the history of a shard, and reads on from there.
-- O(log N + P) for a page of P entries.
--
-- ARGV: 3 rev, 4 digest, 5 the page's length.
-- Reply: { OK | COMPACTED | DIVERGED, ms until the next lease is due or -1, rev, entries after the position }
--
-- A shard that lost a key is DIVERGED: what it lists is not what was put. Who loads it then begins anew.
-- Where entries follow, the first of them holds the digest before it: the caller compares.
-- Like all scripts it lets due leases expire first: it is what a watching process calls when one is.

if fresh or not is_whole() then
  return { 'DIVERGED', '-1', '0', {} }
end
reap()

local at, proof = tonumber(ARGV[3]), ARGV[4]
local status, entries = 'OK', {}
local last = tonumber(rev)
if at > last or (at == last and proof ~= dig) then
  status = 'DIVERGED'
elseif at < last then
  local next_id = num(at + 1) .. '-0'
  entries = redis.call('XRANGE', KEYS[7], next_id, '+', 'COUNT', ARGV[5])
  if not entries[1] or entries[1][1] ~= next_id then
    status, entries = 'COMPACTED', {}
  end
end

local first, wait = redis.call('ZRANGE', EXP, 0, 0, 'WITHSCORES'), -1
if first[2] then
  wait = math.max(0, tonumber(first[2]) - vt + 1)
end
return { status, num(wait), rev, entries }
