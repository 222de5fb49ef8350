-- ARGV: id. Forgets a task that waits, is parked or dead, as if it had never been pushed.
local task = task_key(ARGV[4])
local is = redis.call('HMGET', task, 's', 'q', 'u')
if is[1] ~= 'waiting' and is[1] ~= 'parked' and is[1] ~= 'dead' then return 0 end
redis.call('ZREM', state_key(is[1], is[2]), ARGV[4])
forget_unique(is[3], ARGV[4])
redis.call('DEL', task)
forget_result(ARGV[4])
return 1
