-- ARGV: role, holder, end of the lease.
local key = prefix .. 'throng:lease:' .. ARGV[4]
local is = redis.call('HMGET', key, 'holder', 'until')
if is[1] and is[1] ~= ARGV[5] and tonumber(is[2]) > tonumber(now) then return 0 end
redis.call('HSET', key, 'holder', ARGV[5], 'until', ARGV[6])
return 1
