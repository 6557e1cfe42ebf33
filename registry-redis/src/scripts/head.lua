-- The common head of every script: the state of a shard, and the only functions that change it.
--
-- KEYS: meta, inst, idx, lease, exp, svc, log of one shard (see shard.rs), and no others.
-- ARGV: 1 the server's run id, 2 the log's cap; the rest belongs to the script.
--
-- Rules. A script is atomic, but an error undoes nothing: so `commit` makes the one step that may fail,
-- XADD, before it changes anything, and its callers change the rest after it. The time is read once. Only
-- features of Redis 6.2 and its forks are used: Lua 5.1 that is also valid 5.4, no cjson, no functions, no
-- undeclared keys. Replies are strings, since Redis truncates a Lua number to 53 bits.

local META, EXP, RUN_ID = KEYS[1], KEYS[5], ARGV[1]
local MAX_EXPIRED = 100 -- leases that one call deletes: some 2 ms
local RENEW_STEP = 10 -- ms after which a script that sets a deadline saves the clock
local READ_STEP = 1000 -- ms after which any other script saves it
local IDLE_STEP = 3600000 -- ms after which an empty shard is checked again

-- Lua would write `1.7952e+12`. The conversion is slow, so unchanged numbers stay strings.
local function num(x)
  return string.format('%.0f', x)
end

-- All of these are strings. `count` is the number of records; no lease expires before `due`; `lag` and
-- `saved_at` belong to the clock, see below.
local revision, digest, count, lag, due, saved_at, run_id = '0', '', '0', '0', '0', nil, nil
local meta = redis.call('GET', META)
local is_new = not meta -- the shard was never used, or it was wiped
if meta then
  revision, digest, count, lag, due, saved_at, run_id =
    string.match(meta, '^(%d+) (%x+) (%d+) (%-?%d+) (%d+) (%d+) (.*)$')
  if not revision then
    return redis.error_reply('ERR a key of the registry is damaged: ' .. META)
  end
end

-- The lease clock runs with the server's clock, except for times that no lease should pay for: from when it was
-- last saved to a restart or a failover, and when the server's clock is set back. It lags behind by those. (A
-- clock that is set forward cannot be distinguished from time that passes.)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local elapsed = now - (saved_at or now) -- since the clock was saved
local has_jumped = meta and (elapsed < 0 or run_id ~= RUN_ID)
if has_jumped then
  lag = num(lag + elapsed)
end
local lease_now = now - lag

local function save()
  redis.call('SET', META,
    table.concat({ revision, digest, count, lag, due, num(now), RUN_ID }, ' '))
  elapsed = 0
end

-- Readers save the clock too, now and then. Saving fails on a server that cannot write: a stale replica, or one
-- that refuses renewals. Readers must not take such a server for a live one.
if has_jumped or elapsed >= READ_STEP then
  save()
end

-- Starts the ttl of a record anew. After a restart the lease lives no longer than its ttl and RENEW_STEP.
-- O(log N).
local function renew(member, ttl)
  local deadline = num(lease_now + ttl)
  redis.call('ZADD', EXP, deadline, member)
  if lease_now + ttl < tonumber(due) then
    due = deadline
    save()
  elseif elapsed >= RENEW_STEP then
    save()
  end
end

-- Splits a value of inst: mod_revision, lease, ttl, and the index at which the record begins.
local function parse(value)
  return string.match(value or '', '^(%d+) (%d+) (%d+) ()')
end

-- The functions that change a shard. They are created on demand: creating them takes time, and few calls
-- change anything.
local function writer()
  local INST, IDX, LEASE, SVC, LOG = KEYS[2], KEYS[3], KEYS[4], KEYS[6], KEYS[7]
  local CAP = ARGV[2]
  local shard = {}

  -- Makes a revision; nothing else does. It changes the number of records by `added`. O(1), amortised over the
  -- trimming of the log.
  local function commit(kind, member, record, ttl, added)
    local next_revision = num(revision + 1)
    local chained = table.concat({ digest, next_revision, kind, member, record }, '\31')
    local next_digest = string.sub(redis.sha1hex(chained), 1, 16)
    redis.call('XADD', LOG, 'MAXLEN', '~', CAP, next_revision .. '-0',
      't', kind, 'm', member, 'v', record, 'x', ttl, 'p', digest, 'd', next_digest)
    revision, digest, count = next_revision, next_digest, num(count + added)
    save()
  end

  local function service_of(member)
    return string.sub(member, 1, string.find(member, '\31', 1, true) - 1)
  end

  -- Begins a new history. Deletes what is left of a shard that lost its meta.
  function shard.create(seed)
    redis.call('DEL', INST, IDX, LEASE, EXP, SVC, LOG)
    is_new, revision, digest, count, due = false, '0', seed, '0', '0'
    save()
  end

  -- Puts a record under a lease. `current` is the value that it replaces, if any. O(log N).
  function shard.put(member, lease, ttl, record, current)
    commit('P', member, record, ttl, current and 0 or 1)
    redis.call('HSET', INST, member, revision .. ' ' .. lease .. ' ' .. ttl .. ' ' .. record)
    redis.call('HSET', LEASE, lease, member)
    if redis.call('ZADD', IDX, 0, member) == 1 then
      redis.call('HINCRBY', SVC, service_of(member), 1)
    end
  end

  -- Deletes a record and its lease. O(log N).
  function shard.delete(member)
    local value = redis.call('HGET', INST, member)
    if value then
      commit('D', member, '', '0', -1)
      local _, lease = parse(value)
      redis.call('HDEL', INST, member)
      redis.call('HDEL', LEASE, lease or '')
    end
    redis.call('ZREM', EXP, member)
    if redis.call('ZREM', IDX, member) == 1 then
      local service = service_of(member)
      if redis.call('HINCRBY', SVC, service, -1) <= 0 then
        redis.call('HDEL', SVC, service)
      end
    end
  end

  -- Deletes expired leases, MAX_EXPIRED at most. Returns whether none is left. O(log N).
  function shard.delete_expired()
    local expired = redis.call('ZRANGEBYSCORE', EXP, '-inf', '(' .. num(lease_now), 'LIMIT', 0,
      MAX_EXPIRED)
    for _, member in ipairs(expired) do
      shard.delete(member)
    end
    if #expired == MAX_EXPIRED then
      return false
    end
    local first = redis.call('ZRANGE', EXP, 0, 0, 'WITHSCORES')
    due = num(first[2] or lease_now + IDLE_STEP)
    save()
    return true
  end

  -- Deletes one record if it has expired. A script needs it for the records that it decides by, where
  -- `delete_expired` left some. O(log N).
  function shard.delete_if_expired(member)
    local deadline = redis.call('ZSCORE', EXP, member)
    if deadline and tonumber(deadline) < lease_now then
      shard.delete(member)
    end
  end

  return shard
end

-- Returns whether the shard has all its keys: none has fewer entries than meta says. (A record that somebody
-- overwrote leaves one lease too many.) O(1).
local function is_whole()
  local records = tonumber(count)
  return redis.call('HLEN', KEYS[2]) >= records
    and redis.call('ZCARD', KEYS[3]) >= records
    and redis.call('HLEN', KEYS[4]) >= records
    and redis.call('ZCARD', EXP) >= records
end

-- Deletes expired leases, MAX_EXPIRED at most. Returns whether none is left. O(1) if none has expired.
local function delete_expired()
  return tonumber(due) >= lease_now or writer().delete_expired()
end

