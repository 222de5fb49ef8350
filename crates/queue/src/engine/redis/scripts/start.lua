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

-- How it ended once is not how it will end: neither for us nor for Celery's `AsyncResult`.
local function forget_result(id) redis.call('DEL', prefix .. 'celery-task-meta-' .. id) end

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

-- What is said once for all tasks of a call: members of a sorted set, values of a list, queues.
local members, values, named = {}, {}, {}

local function gather(into, key, ...)
  local some = into[key]
  if not some then
    some = {}
    into[key] = some
  end
  for at = 1, select('#', ...) do some[#some + 1] = (select(at, ...)) end
end

-- Does `command` for all that was gathered, a bounded number at a time.
local function say(command, into)
  for key, some in pairs(into) do
    for at = 1, #some, 1000 do
      redis.call(command, key, unpack(some, at, math.min(at + 999, #some)))
    end
    into[key] = nil
  end
end

local function name_queue(queue)
  if named[queue] then return end
  named[queue] = true
  redis.call('SADD', prefix .. 'throng:queues', queue)
end

-- How a task ends, but for the index, to which `ends` adds it.
local function finish_record(id, queue, state, unique, reason, result)
  local task = task_key(id)
  if result then
    redis.call('HSET', task, 's', state, 'f', now, 't', '', 'res', result)
  elseif reason then
    redis.call('HSET', task, 's', state, 'f', now, 't', '', 'x', reason)
  else
    redis.call('HSET', task, 's', state, 'f', now, 't', '')
  end
  forget_unique(unique, id)
  if state == 'dead' then
    redis.call('PERSIST', task)
  else
    redis.call('PEXPIRE', task, keep)
  end
end

local function finish(id, queue, state, unique, reason)
  finish_record(id, queue, state, unique, reason)
  local index = state_key(state, queue)
  redis.call('ZADD', index, now, id)
  if state ~= 'dead' then redis.call('ZREMRANGEBYRANK', index, 0, -LISTED - 1) end
end

-- Whoever works pushes what follows it, and tells Celery.
local function leave_unfollowed(id) redis.call('SADD', prefix .. 'throng:follow', id) end

-- One task in; its message goes with those that `values` has. Answers with the id under which it
-- is known.
local function push(at)
  local id, queue, name, priority, message = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local due, expires, unique, flags = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local task = task_key(id)
  if redis.call('EXISTS', task) == 1 then return id end
  if unique ~= '' then
    local holder = redis.call('GET', unique_key(unique))
    if holder and string.sub(flags, 3, 3) == '1' then
      -- Debounced: it takes the place of what waits, and the key of what does not wait any more.
      local is = redis.call('HMGET', task_key(holder), 's', 'q')
      if is[1] == 'waiting' then
        redis.call('ZREM', state_key('waiting', is[2]), holder)
        finish(holder, is[2], 'cancelled', nil, 'a later push took its place')
      end
    elseif holder then
      return holder
    end
    redis.call('SET', unique_key(unique), id, 'PX', WEEK)
  end
  name_queue(queue)
  redis.call('HSET', task, 's', due == '' and 'queued' or 'waiting', 'm', message, 'q', queue,
    'n', name, 'l', priority, 'u', unique, 'o', string.sub(flags, 1, 1), 'i', string.sub(flags, 2, 2),
    'p', now)
  if due == '' then
    redis.call('PEXPIRE', task, WEEK)
    gather(values, list_key(queue, priority), message)
    if expires ~= '' then redis.call('ZADD', state_key('expiring', queue), expires, id) end
  else
    redis.call('ZADD', state_key('waiting', queue), due, id)
  end
  return id
end
local PUSH_FIELDS = 9
