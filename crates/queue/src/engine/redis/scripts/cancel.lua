-- ARGV: id. Cancels a task that has not finished.
local is = redis.call('HMGET', task_key(ARGV[4]), 's', 'q', 'l', 'm', 'u')
local open = {waiting = 1, queued = 1, running = 1, parked = 1, suspect = 1}
if not is[1] or not open[is[1]] then return 0 end
if is[1] == 'queued' then
  redis.call('LREM', list_key(is[2], is[3]), -1, is[4])
else
  redis.call('ZREM', state_key(is[1], is[2]), ARGV[4])
end
finish(ARGV[4], is[2], 'cancelled', is[5], 'cancelled')
leave_unfollowed(ARGV[4])
return 1
