-- Reads the records of a service at one revision, a page at a time. O(log N + M) for a page of M of them.
--
-- ARGV: 5 service, 6 the page's length, up to 1000, 7 the member before the page, or '' for the first.
-- Reply: { OK, revision, digest, lineage, the member before the next page or '', members, values } | { DUE, ... }: call
-- again, since more leases have expired than one call deletes, and expired ones must not be shown.
--
-- Pages are of different revisions: the caller brings them to one with the log.

if is_new then
  local _, _, _, create = writer()
  create()
elseif not none_expired then
  return { 'DUE', '0', '', '', '', {}, {} }
end

local service, len, after = ARGV[5], tonumber(ARGV[6]), ARGV[7]
local start = after == '' and '[' .. service .. '\31' or '(' .. after
local members =
  redis.call('ZRANGEBYLEX', IDX, start, '(' .. service .. '\32', 'LIMIT', 0, len + 1)
local last, values = '', {}
if #members > len then
  members[#members] = nil
  last = members[len]
end
if members[1] then -- Lua's stack holds some 8,000 of them
  values = redis.call('HMGET', STATE, (table.unpack or unpack)(members))
end
for i = 1, #members do
  if values[i] and #values[i] > 70000 then -- larger than any record: what another program wrote fills no reply
    values[i] = ''
  end
end
