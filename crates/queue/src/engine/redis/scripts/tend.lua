-- ARGV: how many crashes make poison. Answers: requeued, buried, expired, and whether tasks are
-- left for somebody to follow up.
local most = tonumber(ARGV[4])
local requeued, buried, expired = 0, 0, 0
for _, queue in ipairs(redis.call('SMEMBERS', prefix .. 'throng:queues')) do
  local running = state_key('running', queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', running, '-inf', '(' .. now, 'LIMIT', 0, 500)) do
    local task = task_key(id)
    local is = redis.call('HMGET', task, 'm', 'l', 'o', 'u')
    redis.call('ZREM', running, id)
    if is[1] then
      local crashes = redis.call('HINCRBY', task, 'c', 1)
      redis.call('HDEL', task, 't')
      if is[3] == '1' then
        finish(id, queue, 'dead', is[4], 'its worker died, and it runs at most once')
        leave_unfollowed(id)
        buried = buried + 1
      elseif crashes >= most then
        finish(id, queue, 'dead', is[4], 'its workers died while they ran it')
        leave_unfollowed(id)
        buried = buried + 1
      elseif crashes >= 2 then
        redis.call('HSET', task, 's', 'suspect')
        redis.call('ZADD', state_key('suspect', queue), now, id)
        requeued = requeued + 1
      else
        enqueue(id, queue, is[2], is[1], true)
        requeued = requeued + 1
      end
    end
  end
  local expiring = state_key('expiring', queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', expiring, '-inf', '(' .. now, 'LIMIT', 0, 500)) do
    redis.call('ZREM', expiring, id)
    local is = redis.call('HMGET', task_key(id), 's', 'm', 'l', 'u')
    if is[1] == 'queued' and redis.call('LREM', list_key(queue, is[3]), -1, is[2]) > 0 then
      finish(id, queue, 'expired', is[4], 'expired before it started')
      leave_unfollowed(id)
      expired = expired + 1
    end
  end
  for _, state in ipairs({'done', 'cancelled', 'expired'}) do
    redis.call('ZREMRANGEBYSCORE', state_key(state, queue), '-inf', string.format('%.0f', now - keep))
  end
end
return {requeued, buried, expired, redis.call('EXISTS', prefix .. 'throng:follow')}
