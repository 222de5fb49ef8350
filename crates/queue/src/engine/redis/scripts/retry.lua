-- ARGV: id, message. Queues a task that rests, as new.
local task = task_key(ARGV[4])
local is = redis.call('HMGET', task, 's', 'q', 'l')
local rests = {waiting = 1, dead = 1, parked = 1, cancelled = 1, expired = 1}
if not is[1] or not rests[is[1]] then return 0 end
redis.call('ZREM', state_key(is[1], is[2]), ARGV[4])
redis.call('HSET', task, 'm', ARGV[5], 'r', 0, 'c', 0)
redis.call('HDEL', task, 'f', 't', 'd')
forget_result(ARGV[4])
redis.call('SREM', prefix .. 'throng:follow', ARGV[4])
enqueue(ARGV[4], is[2], is[3], ARGV[5], false)
return 1
