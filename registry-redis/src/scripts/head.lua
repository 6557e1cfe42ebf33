-- The common head of every script: the state of a shard, and the only functions that change it. It deletes
-- expired leases first.
--
-- KEYS: state, idx, exp, log of one shard (see shard.rs), and no others.
-- ARGV: 1 the server's run id, 2 the log's cap, 3 a member and 4 a lease that the script decides by, or ''; the
-- rest belongs to the script.
--
-- Rules. A script is atomic, but an error undoes nothing: so the commands that may fail, on idx, exp and log,
-- come before the one that changes the state. The time is read once. Only features of Redis 6.2 and its forks
-- are used: Lua 5.1 that is also valid 5.4, no cjson, no functions, no undeclared keys. Replies are strings,
-- since Redis truncates a Lua number to 53 bits. A command takes some 0.5 us and a closure 0.1 us, so the
-- common case makes few of them.

local STATE, IDX, EXP, LOG, RUN_ID = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local MAX_EXPIRED = 100 -- leases that one call deletes: some 2 ms
local READ_STEP = 1000 -- ms after which any script saves the clock
local IDLE_STEP = 3600000 -- ms after which an empty shard is checked again

-- Lua would write `1.7952e+12`. The conversion is slow, so unchanged numbers stay strings.
local function num(x)
  return string.format('%.0f', x)
end

-- All of these are strings. `count` is the number of members of idx; no lease expires before `due`; `lag`
-- and `saved_at` belong to the clock, see below.
local revision, digest, lineage, count, lag, due = '0', '', '', '0', '0', '0'
local saved_at, run_id
local found = redis.call('HMGET', STATE, 'meta', ARGV[3], ARGV[4])
local is_new = not found[1] -- the shard was never used, or it was wiped
if not is_new then
  revision, digest, lineage, count, lag, due, saved_at, run_id =
    string.match(found[1], '^1 (%d+) (%x+) (%x+) (%d+) (%-?%d+) (%d+) (%d+) (.*)$')
  if not revision then
    return redis.error_reply('ERR a key of the registry is damaged: ' .. STATE)
  end
end

-- The lease clock runs with the server's clock, except for times that no lease should pay for: from when it was
-- last saved to a restart or a failover, and when the server's clock is set back. It lags behind by those. (A
-- clock that is set forward cannot be distinguished from time that passes.)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local elapsed = now - (saved_at or now) -- since the clock was saved
local has_moved = not is_new and run_id ~= RUN_ID
if has_moved or elapsed < 0 then
  lag = num(lag + elapsed)
end
local lease_now = now - lag

-- Saves meta, with more fields and values of the state.
local function save(...)
  redis.call('HSET', STATE, 'meta', '1 ' .. revision .. ' ' .. digest .. ' ' .. lineage .. ' '
    .. count .. ' ' .. lag .. ' ' .. due .. ' ' .. num(now) .. ' ' .. RUN_ID, ...)
  elapsed = 0
end

-- Readers save the clock too, now and then. Saving fails on a server that cannot write: a stale replica, or one
-- that refuses renewals. Readers must not take such a server for a live one.
if has_moved then
  lineage = string.sub(redis.sha1hex(lineage .. ' ' .. RUN_ID), 1, 16)
end
if has_moved or elapsed < 0 or elapsed >= READ_STEP then
  save()
end

-- Splits the value of a record. Returns its revision, digest, lease, ttl and claimed revision, and the index at
-- which the encoded record begins; or nothing if this library did not write the value.
local function parse(value)
  local at, proof, lease, ttl, claimed, start =
    string.match(value or '', '^([1-9]%d*) (%x+) ([1-9]%d*) ([1-9]%d*) ([1-9]%d*) ()')
  if lease and (#lease < 19 or #lease == 19 and lease <= '9223372036854775807') then
    return at, proof, lease, ttl, claimed, start
  end
end

-- Returns the functions that change a shard: commit, remove, remove_if_expired, create. They are created on
-- demand, and save nothing but `create`.
local function writer()
  -- Makes a revision; nothing else does. O(1), amortised over the trimming of the log.
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
    if type(reply) == 'table' then
      -- Another program has written to the log: the history goes on in a new log.
      if string.find(reply.err, 'smaller') or string.find(reply.err, 'exhausted')
        or string.find(reply.err, 'WRONGTYPE') then
        redis.call('DEL', LOG)
      end
      append(redis.call)
    end
    revision, digest = next_revision, next_digest
  end

  -- Deletes a record and its lease. `reason` is `withdrawn`, `expired` or nothing; a record of an unknown lease
  -- has none. O(log N).
  local function remove(member, reason)
    redis.call('ZREM', EXP, member)
    count = num(math.max(0, count - redis.call('ZREM', IDX, member)))
    local value = redis.call('HGET', STATE, member)
    if value then
      local _, _, lease = parse(value)
      commit('D', member, lease and reason or '')
      redis.call('HDEL', STATE, member, lease or '')
    end
  end

  -- A script needs it for the members that it decides by, where the head left some expired ones. O(log N).
  local function remove_if_expired(member)
    local deadline = redis.call('ZSCORE', EXP, member)
    if deadline and tonumber(deadline) < lease_now then
      remove(member, 'expired')
    end
  end

  -- Begins a new history. Deletes what is left of a shard that lost a key.
  local function create(seed)
    redis.call('DEL', STATE, IDX, EXP, LOG)
    is_new, revision, digest, count, due = false, '0', seed, '0', num(lease_now + IDLE_STEP)
    lineage = string.sub(redis.sha1hex(seed .. ' ' .. RUN_ID), 1, 16)
    save()
  end

  return commit, remove, remove_if_expired, create
end

-- Expired leases are deleted, MAX_EXPIRED at most. O(1) if none has expired.
local none_expired = is_new or tonumber(due) >= lease_now
if not none_expired then
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

