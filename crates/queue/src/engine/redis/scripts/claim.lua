-- ARGV: end of the lease, token, worker, limit, takes a suspect, lowest first, number of names,
-- the names, the queues. Answers: when the next waiting task is due or '', then for each task its
-- record's id, its message, its crashes and its retries.
local lease_end, token, worker, limit = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local takes_suspect, lowest_first, name_count = ARGV[8] == '1', ARGV[9] == '1', tonumber(ARGV[10])
local names = nil
if name_count >= 0 then
  names = {}
  for at = 11, 10 + name_count do names[ARGV[at]] = true end
else
  name_count = 0
end
local queues = {}
for at = 11 + name_count, #ARGV do
  if redis.call('SISMEMBER', prefix .. 'throng:paused', ARGV[at]) == 0 then
    queues[#queues + 1] = ARGV[at]
  end
end
local answer = {''}
local OURS = '^{"headers":{"id":"([^"\\]+)","task":"([^"\\]+)","ignore_result":(%l+)[,}]'

-- Its id, its name, whether it ignores its result, and whether it is as our own `push` wrote it.
local function read(message)
  -- What we wrote begins so, and reading no further is many times cheaper.
  local id, name, ignores = string.match(message, OURS)
  if id then return id, name, ignores == 'true', true end
  local ok, read = pcall(cjson.decode, message)
  local headers = ok and type(read) == 'table' and read.headers
  if type(headers) ~= 'table' then headers = {} end
  id = headers.id
  -- What has no id in its headers is held under its hash, for the worker to sort out.
  if type(id) ~= 'string' or id == '' then id = 'raw-' .. redis.sha1hex(message) end
  name = type(headers.task) == 'string' and headers.task or ''
  return id, name, headers.ignore_result == true, false
end

local function hold(queue, message, id, name, ignores, is_ours)
  local task = task_key(id)
  local was = redis.call('HMGET', task, 's', 'c', 'r', 'q')
  if was[1] == 'cancelled' then return end
  if is_ours and was[1] == 'queued' and was[4] == queue then
    redis.call('HSET', task, 's', 'running', 't', token, 'w', worker, 'st', now)
  else
    redis.call('HSET', task, 's', 'running', 't', token, 'w', worker, 'st', now, 'm', message,
      'q', queue, 'n', name, 'i', ignores and '1' or '0')
    name_queue(queue)
  end
  redis.call('PERSIST', task)
  gather(members, state_key('running', queue), lease_end, id)
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = id, message, was[2] or '0', was[3] or '0'
  limit = limit - 1
end

local steps = lowest_first and {0, 3, 6, 9} or {9, 6, 3, 0}
for _, step in ipairs(steps) do
  for _, queue in ipairs(queues) do
    local list = list_key(queue, step)
    if limit > 0 and names then
      local waiting = redis.call('LRANGE', list, -1000, -1)
      for at = #waiting, 1, -1 do
        local id, name, ignores, is_ours = read(waiting[at])
        if limit > 0 and names[name] then
          redis.call('LREM', list, -1, waiting[at])
          hold(queue, waiting[at], id, name, ignores, is_ours)
        end
      end
    elseif limit > 0 then
      for _, message in ipairs(redis.call('RPOP', list, limit) or {}) do
        hold(queue, message, read(message))
      end
    end
  end
end
for _, queue in ipairs(queues) do
  local suspects = state_key('suspect', queue)
  if takes_suspect and limit > 0 then
    local id = redis.call('ZRANGE', suspects, 0, 0)[1]
    local message = id and redis.call('HGET', task_key(id), 'm')
    if id then redis.call('ZREM', suspects, id) end
    if message then
      local _, name, ignores = read(message)
      hold(queue, message, id, name, ignores, false)
      takes_suspect = false
    end
  end
  local due = redis.call('ZRANGE', state_key('waiting', queue), 0, 0, 'WITHSCORES')[2]
  if due and (answer[1] == '' or tonumber(due) < tonumber(answer[1])) then answer[1] = due end
end
say('ZADD', members)
return answer
