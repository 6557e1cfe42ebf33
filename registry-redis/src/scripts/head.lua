-- The common head of every script: what a shard is, and the few ways to change it.
--
-- KEYS: meta, inst, idx, lease, exp, svc, log of one shard (see shard.rs), and no others.
-- ARGV: 1 the server's run id, 2 the log's cap; what follows belongs to the script.
--
-- Rules. A script is atomic, but an error half-way undoes nothing: so `commit` makes the one step that
-- may fail, XADD, before it changes anything, and whoever calls it changes the rest after. The time is
-- read once. Only what runs on Redis 6.2 and its relatives is used: Lua 5.1 that is also valid 5.4, no
-- cjson, no functions, no undeclared keys. Replies are strings, since a Lua number is cut to 53 bits.

local META, INST, IDX, LEASE, EXP, SVC, LOG =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local RUN, CAP = ARGV[1], ARGV[2]
local BUDGET = 100    -- leases that one call lets expire: some 2 ms
local MAX_STEP = 3000 -- ms that a lease may lose by a restart or a failover
local SAVE_STEP = 1000 -- ms after which the clock is saved though nothing happens
local IDLE_STEP = 3600000 -- ms after which an empty shard is looked at again
local unpack = table.unpack or unpack

local meta = redis.call('HMGET', META, 'rev', 'dig', 'vt', 'rt', 'run', 'due')
local fresh = not meta[1] -- nobody used the shard yet, or it was wiped
local rev, dig = tonumber(meta[1] or 0), meta[2]
local due = tonumber(meta[6]) -- no lease falls due before, if it is known

local function num(x)
  return string.format('%.0f', x)
end

-- The lease clock. It runs with the server's, but for what no lease should pay for: time the server was
-- not there, and a clock set back. (A clock set forward looks like time passing, and is not told apart.)
local time = redis.call('TIME')
local rt = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local vt, step = tonumber(meta[3] or rt), rt - tonumber(meta[4] or rt)
local jumped = not fresh and (step < 0 or meta[5] ~= RUN)
if jumped then
  step = math.max(0, math.min(step, MAX_STEP))
end
vt = vt + step

-- Whoever sets a deadline saves the clock, so that a restart gives no lease more than its ttl again. Called
-- once, at the end of a script: its time stands still.
local function save_clock()
  redis.call('HSET', META, 'vt', num(vt), 'rt', num(rt), 'run', RUN, 'due', due and num(due) or '')
end

-- Readers save it too, now and then. It fails where nothing can be written: on a server that was made a
-- replica and may be stale, or that refuses renewals. Such a server must not look alive to them.
if jumped or (not fresh and step >= SAVE_STEP) then
  save_clock()
end

-- Begins a history that no other can be taken for. Remains of a shard whose meta was lost go with it.
local function create(seed)
  redis.call('DEL', INST, IDX, LEASE, EXP, SVC, LOG)
  redis.call('HSET', META, 'rev', '0', 'dig', seed)
  fresh, rev, dig, due = false, 0, seed, nil
  save_clock()
end

-- Takes a value of inst apart: mrev, lease, ttl, and the place where the record begins.
local function parse(value)
  return string.match(value or '', '^(%d+) (%d+) (%d+) ()')
end

-- Starts the ttl of a record anew. The caller saves the clock. O(log N).
local function renew(member, ttl)
  local deadline = vt + tonumber(ttl)
  redis.call('ZADD', EXP, num(deadline), member)
  if due and deadline < due then
    due = deadline
  end
end

-- Gives what changes a shard, `put` and `drop`. They are made where they are needed: to make a function
-- takes time, and few calls change anything.
local function changes()
  -- Makes a revision: the only place that does. O(1), amortised over the trimming of the log.
  local function commit(kind, member, record, ttl)
    local next_rev = num(rev + 1)
    local chained = table.concat({ dig, next_rev, kind, member, record }, '\31')
    local next_dig = string.sub(redis.sha1hex(chained), 1, 16)
    redis.call('XADD', LOG, 'MAXLEN', '~', CAP, next_rev .. '-0',
      't', kind, 'm', member, 'v', record, 'x', ttl, 'p', dig, 'd', next_dig)
    redis.call('HSET', META, 'rev', next_rev, 'dig', next_dig)
    rev, dig = rev + 1, next_dig
    return next_rev
  end

  local function service_of(member)
    return string.sub(member, 1, string.find(member, '\31', 1, true) - 1)
  end

  -- Puts a record under a lease. O(log N).
  local function put(member, lease, ttl, record)
    local mrev = commit('P', member, record, ttl)
    redis.call('HSET', INST, member, mrev .. ' ' .. lease .. ' ' .. ttl .. ' ' .. record)
    redis.call('HSET', LEASE, lease, member)
    if redis.call('ZADD', IDX, 0, member) == 1 then
      redis.call('HINCRBY', SVC, service_of(member), 1)
    end
    return mrev
  end

  -- Deletes a record with its lease. O(log N).
  local function drop(member)
    local value = redis.call('HGET', INST, member)
    if value then
      commit('D', member, '', '0')
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

  return put, drop
end

-- Lets what is due expire, up to the budget. Whether nothing due is left. O(1) if nothing is due, and
-- O(log N) now and then.
local function reap()
  if due and due >= vt then
    return true
  end
  local dead = redis.call('ZRANGEBYSCORE', EXP, '-inf', '(' .. num(vt), 'LIMIT', 0, BUDGET)
  if dead[1] then
    local _, drop = changes()
    for _, member in ipairs(dead) do
      drop(member)
    end
  end
  if #dead == BUDGET then
    return false
  end
  local first = redis.call('ZRANGE', EXP, 0, 0, 'WITHSCORES')
  due = tonumber(first[2]) or vt + IDLE_STEP
  save_clock()
  return true
end

-- Lets one record expire if it is due. What a script decides by goes through here where `reap` had more
-- to do than its budget allows. O(log N).
local function settle(member)
  local deadline = redis.call('ZSCORE', EXP, member)
  if deadline and tonumber(deadline) < vt then
    local _, drop = changes()
    drop(member)
  end
end

