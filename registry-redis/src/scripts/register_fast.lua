-- The fast path of register.lua, before the common head: the id and the lease are unknown, in an undamaged
-- shard without expired leases. O(log N).
--
-- It writes nothing until all conditions hold, so that otherwise the script after it starts from scratch.

do
  local member, lease = ARGV[3], ARGV[4]
  local found = redis.call('HMGET', KEYS[1], 'meta', member, lease)
  local revision, digest, lineage, count, lag, due, saved_at, run_id
  if found[1] and not found[2] and not found[3] then
    revision, digest, lineage, count, lag, due, saved_at, run_id =
      string.match(found[1], '^1 (%d+) (%x+) (%x+) (%d+) (%-?%d+) (%d+) (%d+) (.*)$')
  end
  if run_id == ARGV[1] and #revision < 16 and redis.call('ZCARD', KEYS[2]) >= tonumber(count)
    and redis.call('ZCARD', KEYS[3]) >= tonumber(count)
  then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local lease_now = now - lag
    if now >= tonumber(saved_at) and lease_now <= tonumber(due) then
      local at = string.format('%.0f', revision + 1)
      local value = lease .. ' ' .. ARGV[5] .. ' ' .. at .. ' ' .. ARGV[7]
      local next_digest = string.sub(
        redis.sha1hex(digest .. '\31' .. at .. '\31P\31' .. member .. '\31' .. value), 1, 16)
      local reply = redis.pcall('XADD', KEYS[4], 'MAXLEN', '~', ARGV[2], at .. '-0',
        't', 'P', 'm', member, 'v', value, 'p', digest, 'd', next_digest)
      if type(reply) == 'string' then
        local deadline = lease_now + ARGV[5]
        redis.call('ZADD', KEYS[3], deadline, member)
        if redis.call('ZADD', KEYS[2], 0, member) == 1 then
          count = count + 1
        end
        local meta = string.format('1 %s %s %s %.0f %s %.0f %.0f ', at, next_digest, lineage, count,
          lag, math.min(due, deadline), now)
        redis.call('HSET', KEYS[1], 'meta', meta .. run_id,
          member, at .. ' ' .. next_digest .. ' ' .. value, lease, member)
        return { 'OK', at, next_digest }
      end
    end
  end
end

