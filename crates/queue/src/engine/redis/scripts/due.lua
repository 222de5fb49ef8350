-- ARGV: the queues. Answers with id, message and retries of waiting tasks whose time has come.
local answer = {}
for at = 4, #ARGV do
  local ids = redis.call('ZRANGEBYSCORE', state_key('waiting', ARGV[at]), '-inf', now, 'LIMIT', 0, 500)
  for _, id in ipairs(ids) do
    local task = redis.call('HMGET', task_key(id), 'm', 'r')
    if task[1] then
      local n = #answer
      answer[n + 1], answer[n + 2], answer[n + 3] = id, task[1], task[2] or '0'
    else
      redis.call('ZREM', state_key('waiting', ARGV[at]), id)
    end
  end
end
return answer
