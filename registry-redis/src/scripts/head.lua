-- The common head of every script: the state of a shard, and the only functions that change it. It deletes
-- expired leases first.
--
-- KEYS: state, idx, exp, log of one shard (see shard.rs), and no others.
-- ARGV: 1 the server's run id, 2 the log's cap, 3 the member and 4 the lease that the script depends on, or
-- ''; the rest belongs to the script.
--
-- Rules. A script is atomic, but an error does not roll it back. So keys of a wrong type are detected before
-- the first write, and the log entry is written first, since another program may have made it impossible. An
-- entry ahead of the state, as after a later write that the user may not make, is deleted again. The time is
-- read once. Only features of Redis 6.2 and its forks are used: Lua 5.1 that is also valid 5.4, no cjson, no
-- functions, no undeclared keys. Replies are strings, since Redis truncates a Lua number to 53 bits. A
-- command takes some 0.5 us and a closure 0.1 us, so the common case avoids them.

local STATE, IDX, EXP, LOG, RUN_ID = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local MAX_EXPIRED = 100 -- the limit of leases that one call deletes, in some 2 ms
local READ_STEP = 1000 -- ms after which any script saves the clock
local IDLE_STEP = 3600000 -- ms after which an empty shard is checked again
local MAX_TTL = 86400000 -- ms: the longest ttl of a claim

-- Lua would print `1.7952e+12`. The conversion is slow, so unchanged numbers stay strings.
local function num(x)
  return string.format('%.0f', x)
end

-- All of these are strings. `count` is the number of members of idx; no lease expires before `due`; `lag` and
-- `saved_at` belong to the lease clock, see below.
local revision, digest, lineage, count, lag, due = '0', '', '', '0', '0', '0'
local saved_at, run_id
local found = redis.call('HMGET', STATE, 'meta', ARGV[3], ARGV[4])
if string.find(found[1] or '', '^%d+ ') and not string.find(found[1], '^1 ') then
  return redis.error_reply('ERR a key of the registry has a later format: ' .. STATE)
end
local is_new = true -- the shard was never used, was wiped, or lost meta
local matched = { string.match(found[1] or '', '^1 (%d+) (%x+) (%x+) (%d+) (%-?%d+) (%d+) (%d+) (.*)$') }
if matched[8] and #matched[1] < 16 then -- Lua cannot represent larger integers
  is_new = false
  revision, digest, lineage, count, lag, due, saved_at, run_id = (table.unpack or unpack)(matched)
end

-- The lease clock follows the server's clock, except for times that must not cost leases: from its last save
-- to a restart or a failover, and when the server's clock is set back. It lags behind by those. (A clock that
-- is set forward cannot be distinguished from time that passes.)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local elapsed = now - (saved_at or now) -- since the clock was saved
local has_moved = not is_new and run_id ~= RUN_ID
if has_moved or elapsed < 0 then
  lag = num(lag + elapsed)
end
local lease_now = now - lag

-- Saves meta, together with other fields of the state.
local function save(...)
  redis.call('HSET', STATE, 'meta', '1 ' .. revision .. ' ' .. digest .. ' ' .. lineage .. ' '
    .. count .. ' ' .. lag .. ' ' .. due .. ' ' .. num(now) .. ' ' .. RUN_ID, ...)
  elapsed = 0
end

-- Reads save the clock occasionally, too. Saving fails on a server that cannot write: a stale replica, or one
-- that refuses renewals. Readers must not treat such a server as alive.
if has_moved then
  lineage = string.sub(redis.sha1hex(lineage .. ' ' .. RUN_ID), 1, 16)
end
if has_moved or elapsed < 0 or elapsed >= READ_STEP then
  save()
end

-- Parses the value of a record. Returns its revision, digest, lease, ttl and claimed revision, and the index
-- of the encoded record; or nothing if another program wrote the value.
local function parse(value)
  local at, proof, lease, ttl, claimed, start =
    string.match(value or '', '^([1-9]%d*) (%x+) ([1-9]%d*) ([1-9]%d*) ([1-9]%d*) ()')
  if lease and #at < 16 and (#lease < 19 or #lease == 19 and lease <= '9223372036854775807') then
    return at, proof, lease, ttl, claimed, start
  end
end

-- Returns the functions that change a shard: commit, remove, remove_if_expired, create, repair, clean_log.
-- They are created on demand. Only `create` and `repair` save meta.
local function writer()
  -- Runs a command that may fail on keys written by another program. Missing permissions are still an error.
  local function try(...)
    local reply = redis.pcall(...)
    if type(reply) == 'table' and reply.err
      and (string.find(reply.err, "can't run") or string.find(reply.err, 'ACL') or string.find(reply.err, 'NOPERM'))
    then
      return redis.call(...)
    end
    return reply
  end

  -- Rebuilds the log from its last entries, without those of another program: a stream accepts no id below
  -- its highest one, even if that entry was deleted. O(L) for L entries, up to the cap.
  local function clean_log()
    local log = try('XREVRANGE', LOG, revision .. '-0', '-', 'COUNT', ARGV[2])
    redis.call('DEL', LOG)
    for i = log.err and 0 or #log, 1, -1 do
      if string.find(log[i][1], '^%d+%-0$') then
        redis.call('XADD', LOG, log[i][1], (table.unpack or unpack)(log[i][2]))
      end
    end
  end

  -- Creates a revision; no other function does. O(1), amortised over the trimming of the log.
  local function commit(kind, member, value)
    local next_revision = num(revision + 1)
    local next_digest = string.sub(
      redis.sha1hex(digest .. '\31' .. next_revision .. '\31' .. kind .. '\31' .. member .. '\31'
        .. value), 1, 16)
    local function append(call)
      return call('XADD', LOG, 'MAXLEN', '~', ARGV[2], next_revision .. '-0',
        't', kind, 'm', member, 'v', value, 'p', digest, 'd', next_digest)
    end
    local reply = append(redis.pcall)
    if type(reply) == 'table' and reply.err then
      if string.find(reply.err, 'smaller') or string.find(reply.err, 'exhausted')
        or string.find(reply.err, 'WRONGTYPE') then
        clean_log()
      end
      append(redis.call)
    end
    revision, digest = next_revision, next_digest
  end

  -- Deletes a record and its lease. `reason` is `withdrawn`, `expired` or nothing. A record without a valid
  -- lease gets no reason. O(log N).
  local function remove(member, reason)
    local value = redis.call('HGET', STATE, member)
    local _, _, lease = parse(value)
    if value then
      commit('D', member, lease and reason or '')
    end
    redis.call('ZREM', EXP, member)
    count = num(math.max(0, count - redis.call('ZREM', IDX, member)))
    if value then
      redis.call('HDEL', STATE, member, lease or '')
    end
  end

  -- Deletes a member whose lease has expired. A script calls this for the members that it depends on, if the
  -- head left some expired ones. O(log N).
  local function remove_if_expired(member)
    local deadline = redis.call('ZSCORE', EXP, member)
    if deadline and tonumber(deadline) < lease_now then
      remove(member, 'expired')
    end
  end

  -- Starts a history with a unique digest.
  local function begin_history()
    digest = string.sub(redis.sha1hex(STATE .. time[1] .. ' ' .. time[2] .. ' ' .. RUN_ID), 1, 16)
    redis.call('DEL', LOG)
  end

  local function begin_lineage()
    lineage = string.sub(redis.sha1hex(digest .. ' ' .. RUN_ID), 1, 16)
  end

  -- Starts the history of a shard without records.
  local function create()
    redis.call('DEL', STATE, IDX, EXP)
    begin_history()
    begin_lineage()
    is_new, revision, count, due = false, '0', '0', num(lease_now + IDLE_STEP)
    save()
  end

  -- Makes the keys of a shard consistent after one of them, or meta, was lost or overwritten. It keeps the
  -- records in state, and the records of members in idx that the log has. A record that is in neither is
  -- deleted, and its owner registers it again. O(N log N) for N records and entries.
  local function repair()
    local state, indexed, entries = redis.call('HGETALL', STATE), {}, nil
    local members = redis.call('ZRANGE', IDX, 0, -1)
    local values, latest = {}, 0
    for i = 1, #state, 2 do
      if string.find(state[i], '\31', 1, true) then
        values[state[i]] = state[i + 1]
        local at = parse(state[i + 1]) or '0'
        latest = math.max(latest, #at < 15 and tonumber(at) or 0) -- an invalid huge one must not exhaust the revisions
      end
    end
    for _, member in ipairs(members) do
      indexed[member] = true
    end

    -- Without meta, the log shows the last revision. Without a log, a new history starts after all known
    -- revisions.
    local log = try('XREVRANGE', LOG, '+', '-', 'COUNT', 1)
    if is_new then
      local id, fields = (log[1] or {})[1] or '', (log[1] or {})[2] or {}
      local at = string.match(id, '^(%d+)%-0$')
      if at and #at < 16 and tonumber(at) >= latest and fields[9] == 'd'
        and string.find(fields[10], '^%x+$') and #fields[10] == 16 then
        revision, digest = at, fields[10]
      else
        revision, log = num(latest + 1), {}
        begin_history()
      end
      begin_lineage()
    end

    -- Records of members in idx that state lost.
    for _, member in ipairs(members) do
      if not values[member] and log[1] and not entries then
        entries = {}
        for _, entry in ipairs(redis.call('XRANGE', LOG, '-', '+')) do
          local at, fields = string.match(entry[1], '^(%d+)%-0$'), entry[2]
          if at and fields[9] == 'd' and tonumber(at) <= tonumber(revision) then
            local value = at .. ' ' .. fields[10] .. ' ' .. fields[6]
            entries[fields[4]] = fields[2] == 'P' and value or nil
          end
        end
      end
      values[member] = values[member] or entries and parse(entries[member]) and entries[member] or nil
    end

    -- Without meta, the lease clock resumes at the last known renewal.
    local deadlines, renewed = {}, 0
    for member, value in pairs(values) do
      local _, _, _, ttl = parse(value)
      local deadline = redis.call('ZSCORE', EXP, member)
      deadlines[member] = deadline
      if deadline and ttl and deadline - ttl <= now then -- else another program wrote the deadline
        renewed = math.max(renewed, deadline - ttl)
      end
    end
    if is_new and renewed > 0 then
      lag = num(math.max(0, now - renewed))
      lease_now = now - lag
    end

    for member, value in pairs(values) do
      local _, _, lease, ttl = parse(value)
      if lease or indexed[member] then
        local deadline = tonumber(deadlines[member]) or lease_now + (ttl or 60000)
        -- A deadline of another program must pass, too.
        redis.call('ZADD', EXP, num(math.min(deadline, lease_now + MAX_TTL)), member)
        redis.call('ZADD', IDX, 0, member)
        if lease then
          redis.call('HSET', STATE, member, value, lease, member)
        end
      end
    end
    is_new = false
    for _, member in ipairs(members) do
      if not values[member] then
        commit('D', member, '')
        redis.call('ZREM', EXP, member)
        redis.call('ZREM', IDX, member)
      end
    end
    count = num(redis.call('ZCARD', IDX))
    due = num(redis.call('ZRANGE', EXP, 0, 0, 'WITHSCORES')[2] or lease_now + IDLE_STEP)
    save()
  end

  return commit, remove, remove_if_expired, create, repair, clean_log
end

if is_new and (redis.call('HLEN', STATE) > 0 or redis.call('ZCARD', IDX) > 0) then
  local _, _, _, _, repair = writer()
  repair()
  found = redis.call('HMGET', STATE, 'meta', ARGV[3], ARGV[4])
end

-- Deletes expired leases, at most MAX_EXPIRED. O(1) if none has expired.
local none_expired = is_new or tonumber(due) >= lease_now
if not none_expired then
  redis.call('ZCARD', IDX) -- fails if it has another type
  local expired = redis.call('ZRANGEBYSCORE', EXP, '-inf', '(' .. num(lease_now), 'LIMIT', 0,
    MAX_EXPIRED)
  local _, remove, remove_if_expired = writer()
  for _, member in ipairs(expired) do
    remove(member, 'expired')
  end
  none_expired = #expired < MAX_EXPIRED
  if none_expired then
    local first = redis.call('ZRANGE', EXP, 0, 0, 'WITHSCORES')
    due = num(first[2] or lease_now + IDLE_STEP)
  else
    remove_if_expired(ARGV[3])
    remove_if_expired(redis.call('HGET', STATE, ARGV[4]) or '')
  end
  save()
  found = redis.call('HMGET', STATE, 'meta', ARGV[3], ARGV[4])
end

