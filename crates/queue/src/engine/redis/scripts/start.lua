-- What every script begins with: names of keys, and the moves between states.
-- ARGV: prefix, now in ms, how long finished records are kept in ms; then the script's own.
local prefix, now, keep = ARGV[1], ARGV[2], ARGV[3]
-- A queued record whose task some other worker took is forgotten after a week.
local WEEK = '604800000'
-- Finished tasks that are listed for each queue and state.
local LISTED = 1000

local function task_key(id) return prefix .. 'throng:task:' .. id end
local function state_key(state, queue) return prefix .. 'throng:' .. state .. ':' .. queue end
local function unique_key(unique) return prefix .. 'throng:unique:' .. unique end

-- kombu's four lists of a queue.
local function list_key(queue, priority)
  local level = tonumber(priority) or 0
  local step = 0
  if level >= 9 then step = 9 elseif level >= 6 then step = 6 elseif level >= 3 then step = 3 end
  if step == 0 then return prefix .. queue end
  return prefix .. queue .. '\6\22' .. step
end

local function forget_unique(unique, id)
  if unique and unique ~= '' and redis.call('GET', unique_key(unique)) == id then
    redis.call('DEL', unique_key(unique))
  end
end

-- Into the queue's list; `first` puts it before the others, as what comes back is.
local function enqueue(id, queue, priority, message, first)
  redis.call('HSET', task_key(id), 's', 'queued')
  redis.call('PEXPIRE', task_key(id), WEEK)
  redis.call(first and 'RPUSH' or 'LPUSH', list_key(queue, priority), message)
end

local function finish(id, queue, state, unique, reason)
  local task = task_key(id)
  redis.call('HSET', task, 's', state, 'f', now)
  redis.call('HDEL', task, 't')
  if reason then redis.call('HSET', task, 'x', reason) end
  forget_unique(unique, id)
  local index = state_key(state, queue)
  redis.call('ZADD', index, now, id)
  if state == 'dead' then
    redis.call('PERSIST', task)
  else
    redis.call('PEXPIRE', task, keep)
    redis.call('ZREMRANGEBYRANK', index, 0, -LISTED - 1)
  end
end

-- One task in. Answers with the id under which it is known.
local function push(at)
  local id, queue, name, priority, message = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local due, expires, unique, once = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local task = task_key(id)
  if redis.call('EXISTS', task) == 1 then return id end
  if unique ~= '' then
    local holder = redis.call('GET', unique_key(unique))
    if holder then return holder end
    redis.call('SET', unique_key(unique), id, 'PX', WEEK)
  end
  redis.call('SADD', prefix .. 'throng:queues', queue)
  redis.call('HSET', task, 'm', message, 'q', queue, 'n', name, 'l', priority, 'u', unique,
    'o', once, 'p', now)
  if due == '' then
    enqueue(id, queue, priority, message, false)
    if expires ~= '' then redis.call('ZADD', state_key('expiring', queue), expires, id) end
  else
    redis.call('HSET', task, 's', 'waiting')
    redis.call('ZADD', state_key('waiting', queue), due, id)
  end
  return id
end
local PUSH_FIELDS = 9
