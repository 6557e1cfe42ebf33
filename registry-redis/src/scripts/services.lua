-- The names of a shard's services with at least one live instance. O(S) for S of them.
--
-- Reply: { OK, names } | { DUE, ... }: call again, see load.lua.

if fresh then
  return { 'OK', {} }
end
if not reap() then
  return { 'DUE', {} }
end
return { 'OK', redis.call('HKEYS', KEYS[6]) }
