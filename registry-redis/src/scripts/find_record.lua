-- Checks that the record of a lease is the last acknowledged one, and returns the position of the shard.
-- O(log N).
--
-- ARGV: 3 member, 5 '<revision> <digest> <lease> <ttl> ', the prefix of its value.
-- Reply: { OK | LOST, ms until the next lease expires or -1, revision, digest, lineage }

if is_new or not found[2] or string.sub(found[2], 1, #ARGV[5]) ~= ARGV[5] then
  return { 'LOST', '-1', '0', '', '' }
end
return { 'OK', ms_to_expiry, revision, digest, lineage }
