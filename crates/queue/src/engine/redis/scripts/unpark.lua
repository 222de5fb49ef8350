-- ARGV: the names that are known now. Answers how many tasks were queued.
local names, unparked = {}, 0
for at = 4, #ARGV do names[ARGV[at]] = true end
for _, queue in ipairs(redis.call('SMEMBERS', prefix .. 'throng:queues')) do
  local parked = state_key('parked', queue)
  for _, id in ipairs(redis.call('ZRANGE', parked, 0, 999)) do
    local is = redis.call('HMGET', task_key(id), 'n', 'l', 'm')
    if is[1] and names[is[1]] then
      redis.call('ZREM', parked, id)
      enqueue(id, queue, is[2], is[3], false)
      unparked = unparked + 1
    end
  end
end
return unparked
