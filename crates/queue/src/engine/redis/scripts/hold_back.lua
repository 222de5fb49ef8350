-- ARGV: token; then id and due time of each held task that must wait first, as one that another's
-- producer sent with an ETA.
for at = 5, #ARGV, 2 do
  local id, due = ARGV[at], ARGV[at + 1]
  local task = redis.call('HMGET', task_key(id), 's', 't', 'q')
  if task[1] == 'running' and task[2] == ARGV[4] then
    redis.call('ZREM', state_key('running', task[3]), id)
    redis.call('HSET', task_key(id), 's', 'waiting')
    redis.call('HDEL', task_key(id), 't')
    redis.call('ZADD', state_key('waiting', task[3]), due, id)
  end
end
