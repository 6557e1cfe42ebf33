-- Reads one page of a service's records, at one revision. O(log N + M) for a page of M records.
--
-- ARGV: 5 service, 6 the page length, up to 1000, 7 the last member of the previous page, or '' for the first
-- page.
-- Reply: { OK, revision, digest, lineage, the last member if there are more pages or '', members, values } |
-- { DUE, ... }: call again, since more leases have expired than one call deletes, and expired ones must not
-- be listed.
--
-- Pages may have different revisions; the caller reconciles them with the log.

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
if members[1] then -- Lua's stack has room for some 8,000 values
  values = redis.call('HMGET', STATE, (table.unpack or unpack)(members))
end
for i = 1, #members do
  if values[i] and #values[i] > 70000 then -- larger than any record: another program's value must not fill the reply
    values[i] = ''
  end
end
