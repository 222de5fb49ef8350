-- ARGV: id, token, progress as JSON. Notes how far a held task is.
local is = redis.call('HMGET', task_key(ARGV[4]), 's', 't')
if is[1] ~= 'running' or is[2] ~= ARGV[5] then return 0 end
redis.call('HSET', task_key(ARGV[4]), 'pg', ARGV[6])
return 1
