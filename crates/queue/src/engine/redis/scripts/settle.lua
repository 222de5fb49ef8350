-- ARGV: for each its id, token, verdict, time, reason, result, and Celery's result or ''.
-- Answers with 1 for each that was recorded.
local answer = {}
for at = 4, #ARGV, 7 do
  local id, token, verdict = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local time, reason, result, celery = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local task = task_key(id)
  local is = redis.call('HMGET', task, 's', 't', 'q', 'u', 'l', 'm', 'i')
  local queue = is[3]
  if is[1] ~= 'running' or is[2] ~= token then
    answer[#answer + 1] = 0
  else
    answer[#answer + 1] = 1
    redis.call('ZREM', state_key('running', queue), id)
    if verdict == 'done' then
      if result ~= 'null' then redis.call('HSET', task, 'res', result) end
      finish(id, queue, 'done', is[4], nil)
    elseif verdict == 'dead' or verdict == 'expired' then
      finish(id, queue, verdict, is[4], reason)
    elseif verdict == 'retry' then
      redis.call('HINCRBY', task, 'r', 1)
      redis.call('HSET', task, 's', 'waiting', 'x', reason, 'c', 0)
      redis.call('HDEL', task, 't')
      redis.call('ZADD', state_key('waiting', queue), time, id)
    elseif verdict == 'park' then
      redis.call('HSET', task, 's', 'parked', 'x', reason)
      redis.call('HDEL', task, 't')
      redis.call('ZADD', state_key('parked', queue), now, id)
    elseif verdict == 'release' then
      redis.call('HDEL', task, 't')
      enqueue(id, queue, is[5], is[6], true)
    end
    if celery ~= '' and is[7] ~= '1' then
      local key = prefix .. 'celery-task-meta-' .. id
      redis.call('SETEX', key, 86400, celery)
      redis.call('PUBLISH', key, celery)
    end
  end
end
return answer
