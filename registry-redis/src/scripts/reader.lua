-- The common head of the scripts for readers, in place of head.lua. It defines the same names, and changes
-- nothing.
--
-- KEYS and ARGV: as in head.lua.
--
-- A reader treats expired leases itself, since it cannot delete them. A shard that lost a key, or whose
-- members are out of order, fails until an owner repairs it. A shard that was never used looks empty at
-- revision 0, which is part of no history.

local STATE, IDX, EXP, LOG, RUN_ID = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]

local function num(x)
  return string.format('%.0f', x)
end

local found = redis.call('HMGET', STATE, 'meta', ARGV[3], ARGV[4])
local meta = found[1] or '1 0 0000000000000000 0000000000000000 0 0 0 0 '
if string.find(meta, '^%d+ ') and not string.find(meta, '^1 ') then
  return redis.error_reply('ERR a key of the registry has a later format: ' .. STATE)
end
local revision, digest, lineage, count, lag, due, saved_at, run_id =
  string.match(meta, '^1 (%d+) (%x+) (%x+) (%d+) (%-?%d+) (%d+) (%d+) (.*)$')
if not revision or #revision > 15
  or redis.call('HLEN', STATE) < tonumber(count) + (found[1] and 1 or 0)
  or not found[1] and redis.call('HLEN', STATE) > 0
  or redis.call('ZCARD', IDX) < tonumber(count) or redis.call('ZCARD', EXP) < tonumber(count)
  or redis.call('ZCARD', IDX) > redis.call('ZCOUNT', IDX, 0, 0)
then
  return redis.error_reply('TRYAGAIN the next call of an owner repairs a key of the registry: ' .. STATE)
end

-- The lease clock stands still until an owner saves it after a restart or a failover.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if run_id ~= RUN_ID or now < tonumber(saved_at) then
  now = tonumber(saved_at)
end
if found[1] and run_id ~= RUN_ID then
  lineage = string.sub(redis.sha1hex(lineage .. ' ' .. RUN_ID), 1, 16)
end
local lease_now = now - lag
local is_new, none_expired, ms_to_expiry = false, true, '-1'

local function parse(value)
  return string.match(value or '', '^([1-9]%d*) (%x+) ([1-9]%d*) ([1-9]%d*) ([1-9]%d*) ()')
end

local function writer()
  local function nothing() end
  return nothing, nothing, nothing, nothing, nothing, nothing
end

