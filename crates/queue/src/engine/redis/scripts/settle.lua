-- ARGV: for each its id, token, verdict, time, reason, result, and Celery's result or ''.
-- Answers with 1 for each that was recorded.
local answer, gone, trims = {}, {}, {}

local function index(state, queue, score, id)
  local key = state_key(state, queue)
  gather(members, key, score, id)
  if state == 'done' or state == 'expired' or state == 'cancelled' then trims[key] = true end
end

for at = 4, #ARGV, 7 do
  local id, token, verdict = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local time, reason, result, celery = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local task = task_key(id)
  local is = redis.call('HMGET', task, 's', 't', 'q', 'u', 'i')
  local queue = is[3]
  if is[1] ~= 'running' or is[2] ~= token then
    answer[#answer + 1] = 0
  else
    answer[#answer + 1] = 1
    gather(gone, state_key('running', queue), id)
    if verdict == 'done' then
      finish_record(id, queue, 'done', is[4], nil, result ~= 'null' and result)
      index('done', queue, now, id)
    elseif verdict == 'dead' or verdict == 'expired' or verdict == 'cancelled' then
      finish_record(id, queue, verdict, is[4], reason)
      index(verdict, queue, now, id)
      -- A dead letter was followed up before its end came here.
      if verdict ~= 'dead' then leave_unfollowed(id) end
    elseif verdict == 'retry' then
      redis.call('HINCRBY', task, 'r', 1)
      redis.call('HSET', task, 's', 'waiting', 'x', reason, 'c', 0, 't', '', 'd', time)
      index('waiting', queue, time, id)
    elseif verdict == 'later' then
      redis.call('HSET', task, 's', 'waiting', 'x', reason, 't', '', 'd', time)
      index('waiting', queue, time, id)
    elseif verdict == 'park' then
      redis.call('HSET', task, 's', 'parked', 'x', reason, 't', '')
      index('parked', queue, now, id)
    elseif verdict == 'release' then
      local held = redis.call('HMGET', task, 'l', 'm')
      redis.call('HDEL', task, 't')
      enqueue(id, queue, held[1], held[2], true)
    elseif verdict == 'moved' then
      forget_unique(is[4], id)
      redis.call('DEL', task)
      forget_result(id)
    end
    if celery ~= '' and is[5] ~= '1' then
      local key = prefix .. 'celery-task-meta-' .. id
      redis.call('SETEX', key, 86400, celery)
      redis.call('PUBLISH', key, celery)
    end
  end
end
say('ZREM', gone)
say('ZADD', members)
for key in pairs(trims) do redis.call('ZREMRANGEBYRANK', key, 0, -LISTED - 1) end
return answer
