-- The common head of every script: what a shard is, and the few ways to change it.
--
-- KEYS: meta, inst, idx, lease, exp, svc, log of one shard (see shard.rs), and no others.
-- ARGV: 1 the server's run id, 2 the log's cap; what follows belongs to the script.
--
-- Rules. A script is atomic, but an error half-way undoes nothing: so `commit` makes the one step that
-- may fail, XADD, before it changes anything, and whoever calls it changes the rest after. The time is
-- read once. Only what runs on Redis 6.2 and its relatives is used: Lua 5.1 that is also valid 5.4, no
-- cjson, no functions, no undeclared keys. Replies are strings, since a Lua number is cut to 53 bits.

local META, EXP, RUN = KEYS[1], KEYS[5], ARGV[1]
local BUDGET = 100     -- leases that one call lets expire: some 2 ms
local RENEW_STEP = 10  -- ms after which who sets a deadline saves the clock
local READ_STEP = 1000 -- ms after which who reads does
local IDLE_STEP = 3600000 -- ms after which an empty shard is looked at again

-- Lua's own way would be `1.7952e+12`. It takes its time, so what was not changed stays a string.
local function num(x)
  return string.format('%.0f', x)
end

-- All of it is strings. `count` is how many records there are; nothing falls due before `due`; `lag` and `rt` are
-- the clock's, see below.
local rev, dig, count, lag, due, rt, run = '0', '', '0', '0', '0', nil, nil
local meta = redis.call('GET', META)
local fresh = not meta -- nobody used the shard yet, or it was wiped
if meta then
  rev, dig, count, lag, due, rt, run =
    string.match(meta, '^(%d+) (%x+) (%d+) (%-?%d+) (%d+) (%d+) (.*)$')
  if not rev then
    return redis.error_reply('ERR a key of the registry is damaged: ' .. META)
  end
end

-- The lease clock, `vt`. It runs with the server's, but for what no lease should pay for: the time from when it
-- was last saved to a restart or a failover, and a clock set back. It lags behind by those. (A clock set forward
-- looks like time passing, and is not told apart.)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local step = now - (rt or now) -- since the clock was saved
local jumped = meta and (step < 0 or run ~= RUN)
if jumped then
  lag = num(lag + step)
end
local vt = now - lag

local function save()
  redis.call('SET', META, table.concat({ rev, dig, count, lag, due, num(now), RUN }, ' '))
  step = 0
end

-- Readers save the clock too, now and then. It fails where nothing can be written: on a server that was
-- made a replica and may be stale, or that refuses renewals. Such a server must not look alive to them.
if jumped or step >= READ_STEP then
  save()
end

-- Starts the ttl of a record anew. A restart then gives it no more than its ttl again, and the step after
-- which the clock is saved. O(log N).
local function renew(member, ttl)
  local deadline = num(vt + ttl)
  redis.call('ZADD', EXP, deadline, member)
  if vt + ttl < tonumber(due) then
    due = deadline
    save()
  elseif step >= RENEW_STEP then
    save()
  end
end

-- Takes a value of inst apart: mrev, lease, ttl, and the place where the record begins.
local function parse(value)
  return string.match(value or '', '^(%d+) (%d+) (%d+) ()')
end

-- What changes a shard. It is made where it is needed: to make a function takes time, and few calls
-- change anything.
local function writer()
  local INST, IDX, LEASE, SVC, LOG = KEYS[2], KEYS[3], KEYS[4], KEYS[6], KEYS[7]
  local CAP = ARGV[2]
  local shard = {}

  -- Makes a revision: the only place that does. There are `more` records after it. O(1), amortised over the
  -- trimming of the log.
  local function commit(kind, member, record, ttl, more)
    local next_rev = num(rev + 1)
    local chained = table.concat({ dig, next_rev, kind, member, record }, '\31')
    local next_dig = string.sub(redis.sha1hex(chained), 1, 16)
    redis.call('XADD', LOG, 'MAXLEN', '~', CAP, next_rev .. '-0',
      't', kind, 'm', member, 'v', record, 'x', ttl, 'p', dig, 'd', next_dig)
    rev, dig, count = next_rev, next_dig, num(count + more)
    save()
  end

  local function service_of(member)
    return string.sub(member, 1, string.find(member, '\31', 1, true) - 1)
  end

  -- Begins a history that no other can be taken for. Remains of a shard whose meta was lost go with it.
  function shard.create(seed)
    redis.call('DEL', INST, IDX, LEASE, EXP, SVC, LOG)
    fresh, rev, dig, count, due = false, '0', seed, '0', '0'
    save()
  end

  -- Puts a record under a lease, in the place of one that is `held` or of none. O(log N).
  function shard.put(member, lease, ttl, record, held)
    commit('P', member, record, ttl, held and 0 or 1)
    redis.call('HSET', INST, member, rev .. ' ' .. lease .. ' ' .. ttl .. ' ' .. record)
    redis.call('HSET', LEASE, lease, member)
    if redis.call('ZADD', IDX, 0, member) == 1 then
      redis.call('HINCRBY', SVC, service_of(member), 1)
    end
  end

  -- Deletes a record with its lease. O(log N).
  function shard.drop(member)
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

  -- Lets what is due expire, up to the budget. Whether nothing due is left. O(log N).
  function shard.expire()
    local dead = redis.call('ZRANGEBYSCORE', EXP, '-inf', '(' .. num(vt), 'LIMIT', 0, BUDGET)
    for _, member in ipairs(dead) do
      shard.drop(member)
    end
    if #dead == BUDGET then
      return false
    end
    local first = redis.call('ZRANGE', EXP, 0, 0, 'WITHSCORES')
    due = num(first[2] or vt + IDLE_STEP)
    save()
    return true
  end

  -- Lets one record expire if it is due. What a script decides by goes through here where `reap` had
  -- more to do than its budget allows. O(log N).
  function shard.settle(member)
    local deadline = redis.call('ZSCORE', EXP, member)
    if deadline and tonumber(deadline) < vt then
      shard.drop(member)
    end
  end

  return shard
end

-- Whether no key of the shard was lost: none has less than meta says. (A record that somebody overwrote leaves
-- a lease too many.) O(1).
local function is_whole()
  local records = tonumber(count)
  return redis.call('HLEN', KEYS[2]) >= records
    and redis.call('ZCARD', KEYS[3]) >= records
    and redis.call('HLEN', KEYS[4]) >= records
    and redis.call('ZCARD', EXP) >= records
end

-- Lets what is due expire, up to the budget. Whether nothing due is left. O(1) if nothing is due.
local function reap()
  return tonumber(due) >= vt or writer().expire()
end

