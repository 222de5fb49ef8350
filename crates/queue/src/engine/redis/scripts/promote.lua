-- ARGV: id and message of each task that goes from waiting into its list.
for at = 4, #ARGV, 2 do
  local id, message = ARGV[at], ARGV[at + 1]
  local task = redis.call('HMGET', task_key(id), 'q', 'l')
  if task[1] and redis.call('ZREM', state_key('waiting', task[1]), id) == 1 then
    redis.call('HSET', task_key(id), 'm', message)
    enqueue(id, task[1], task[2], message, false)
  end
end
