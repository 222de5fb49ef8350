-- ARGV: schedule, time before, this time; then a push or nothing.
local key = prefix .. 'throng:schedule:' .. ARGV[4]
if redis.call('GET', key) ~= ARGV[5] then return 0 end
redis.call('SET', key, ARGV[6])
if #ARGV > 6 then
  push(7)
  say('LPUSH', values)
end
return 1
