-- Reports the state of a shard without changing it. It does not include head.lua. O(log N).
--
-- KEYS: state, idx, exp, log of one shard (see shard.rs).
-- Reply: { FRESH | WHOLE | DAMAGED, revision, the first revision in the log or '0', the numbers of the keys
-- with a wrong type, as in '24', the number of other programs' entries ahead of the log, up to 100 }

local wrong = ''
local function read(key, command, ...)
  local reply = redis.pcall(command, KEYS[key], ...)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'WRONGTYPE') then
      error(reply.err)
    end
    wrong = wrong .. key
    return nil
  end
  return reply
end

local fields = read(1, 'HLEN') or 0
local meta = string.find(wrong, '1') and '' or redis.call('HMGET', KEYS[1], 'meta')[1] or ''
local members, deadlines = read(2, 'ZCARD') or 0, read(3, 'ZCARD') or 0
local log = read(4, 'XRANGE', '-', '+', 'COUNT', 1)
local revision, count = string.match(meta, '^1 (%d+) %x+ %x+ (%d+) %-?%d+ %d+ %d+ .*$')
if not revision or #revision > 15 then
  local is_fresh = fields == 0 and members == 0 and wrong == ''
  return { is_fresh and 'FRESH' or 'DAMAGED', '0', '0', wrong, '0' }
end
count = tonumber(count)
local is_whole = wrong == '' and fields > count and members >= count and deadlines >= count
  and redis.call('ZCOUNT', KEYS[2], 0, 0) == members
local first = log and log[1] and string.match(log[1][1], '^%d+') or '0'
local foreign = log and #redis.call('XRANGE', KEYS[4], string.format('%.0f-0', revision + 1), '+', 'COUNT', 100) or 0
return { is_whole and 'WHOLE' or 'DAMAGED', revision, first, wrong, tostring(foreign) }
