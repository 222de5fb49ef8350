-- ARGV: group, task, place, the part as Celery keeps it, how long a claim and the parts last in s.
-- The keys are Celery's: size, parts in order, what is to be added to the size, who has ended, and
-- who runs the body. Answers with all parts to whoever may run the body, else with nothing.
local function key(what) return prefix .. 'celery-taskset-meta-' .. ARGV[4] .. what end
local claim = redis.call('GET', key('.c'))
if claim == 'done' then return {} end
if redis.call('SADD', key('.d'), ARGV[5] .. ':' .. ARGV[6]) == 1 then
  redis.call('ZADD', key('.j'), ARGV[6], ARGV[7])
end
for _, what in ipairs({'.s', '.j', '.t', '.d'}) do redis.call('EXPIRE', key(what), ARGV[9]) end
local size = redis.call('GET', key('.s'))
local all = tonumber(size or '-1') + tonumber(redis.call('GET', key('.t')) or '0')
if not size or redis.call('ZCARD', key('.j')) ~= all then return {} end
-- The part that completed it may come again, if its worker died before the body was pushed.
if claim ~= ARGV[5] and not redis.call('SET', key('.c'), ARGV[5], 'NX', 'EX', ARGV[8]) then return {} end
return redis.call('ZRANGE', key('.j'), 0, -1)
