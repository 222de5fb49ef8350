-- ARGV: group, task, body or '', its result as Celery reads it. Forgets the chord if the task has it.
local function key(what) return prefix .. 'celery-taskset-meta-' .. ARGV[4] .. what end
if redis.call('GET', key('.c')) ~= ARGV[5] then return 0 end
if ARGV[6] ~= '' then
  local meta = prefix .. 'celery-task-meta-' .. ARGV[6]
  redis.call('SETEX', meta, 86400, ARGV[7])
  redis.call('PUBLISH', meta, ARGV[7])
end
-- A part that ends twice must not begin the chord anew.
redis.call('SET', key('.c'), 'done', 'EX', 300)
redis.call('DEL', key('.s'), key('.j'), key('.t'), key('.d'))
return 1
