-- Reads the records of a service at one revision, a page at a time. O(log N + M) for a page of M of them.
--
-- ARGV: 3 service, 4 seed, 5 the page's length, 6 the member before the page, or '' for the first page.
-- Reply: { OK, revision, digest, 1 if more follow or 0, members, values } | { DUE, ... }: call again, since
-- more leases have expired than one call deletes, and expired ones must not be shown.
--
-- A shard that lost a key, to eviction or to a DEL, begins a new history: the owners of its records put
-- them again at their next renewal.
--
-- Pages are of different revisions: the caller brings them to one with the log.

if is_new or not is_whole() then
  writer().create(ARGV[4])
end
if not delete_expired() then
  return { 'DUE', '0', '', '0', {}, {} }
end

local INST, IDX, unpack = KEYS[2], KEYS[3], table.unpack or unpack
local service, len, after = ARGV[3], tonumber(ARGV[5]), ARGV[6]
local start = after == '' and '[' .. service .. '\31' or '(' .. after
local members =
  redis.call('ZRANGEBYLEX', IDX, start, '(' .. service .. '\32', 'LIMIT', 0, len + 1)
local more = '0'
if #members > len then
  members[#members] = nil
  more = '1'
end
local values = {}
for i = 1, #members, 1000 do -- Lua's stack holds no more than some 8,000
  local part =
    redis.call('HMGET', INST, unpack(members, i, math.min(i + 999, #members)))
  for j = 1, #part do
    values[i + j - 1] = part[j]
  end
end
return { 'OK', revision, digest, more, members, values }
