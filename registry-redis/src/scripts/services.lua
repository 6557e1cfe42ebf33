-- Returns one page of the names of a shard's services that have a record. O(S log N) for S names.
--
-- ARGV: 5 the page length, 6 the last service of the previous page, or '' for the first page.
-- Reply: { OK, names } | { DUE, ... }: call again, see load.lua.

if is_new then
  return { 'OK', {} }
elseif not none_expired then
  return { 'DUE', {} }
end

-- A name contains no control character, so the members of a service lie between its name followed by 0x1F and
-- its name followed by 0x20.
local names, len = {}, tonumber(ARGV[5])
local start = ARGV[6] == '' and '-' or '[' .. ARGV[6] .. '\32'
while #names < len do
  local member = redis.call('ZRANGEBYLEX', IDX, start, '+', 'LIMIT', 0, 1)[1]
  if not member then
    break
  end
  local separator = string.find(member, '\31', 1, true)
  if separator then
    local name = string.sub(member, 1, separator - 1)
    names[#names + 1] = name
    start = '[' .. name .. '\32'
  else
    start = '(' .. member
  end
end
return { 'OK', names }
