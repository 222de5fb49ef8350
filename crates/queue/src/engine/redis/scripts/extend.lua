-- ARGV: end of the lease; then id and token of each. Answers with 1 for each that still holds.
local answer = {}
for at = 5, #ARGV, 2 do
  local task = redis.call('HMGET', task_key(ARGV[at]), 's', 't', 'q')
  local holds = task[1] == 'running' and task[2] == ARGV[at + 1]
  if holds then gather(members, state_key('running', task[3]), ARGV[4], ARGV[at]) end
  answer[#answer + 1] = holds and 1 or 0
end
say('ZADD', members)
return answer
