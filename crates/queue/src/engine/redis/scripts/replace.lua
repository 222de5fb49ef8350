-- ARGV: token, id, message: gives a held task another message; an empty one drops the task.
local task = redis.call('HMGET', task_key(ARGV[5]), 's', 't', 'q')
if task[1] ~= 'running' or task[2] ~= ARGV[4] then return 0 end
if ARGV[6] == '' then
  redis.call('ZREM', state_key('running', task[3]), ARGV[5])
  redis.call('DEL', task_key(ARGV[5]))
else
  redis.call('HSET', task_key(ARGV[5]), 'm', ARGV[6])
end
return 1
