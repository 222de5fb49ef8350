-- ARGV: id, queue, name, priority, message, runs at most once, ignores its result, pushed, finished,
-- reason, retries, crashes. A dead letter of another engine, unless its id is known.
local id, queue, finished = ARGV[4], ARGV[5], ARGV[12]
local task = task_key(id)
if redis.call('EXISTS', task) == 1 then return 0 end
name_queue(queue)
redis.call('HSET', task, 's', 'dead', 'm', ARGV[8], 'q', queue, 'n', ARGV[6], 'l', ARGV[7], 'u', '',
  'o', ARGV[9], 'i', ARGV[10], 'p', ARGV[11], 'f', finished, 'x', ARGV[13], 'r', ARGV[14], 'c', ARGV[15])
redis.call('ZADD', state_key('dead', queue), finished, id)
return 1
