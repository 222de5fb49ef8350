-- Adds to a counter that is there. Keys: the counter, its lease. Arguments: by how much.
-- Tells the sum as text, since Lua has no numbers over 2^53; nothing when it is not there; 0 when it
-- is no counter.
local count = redis.call('GET', KEYS[1])
if not count then
  return false
end
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(sum) == 'table' then
  return 0
end
sum = redis.call('GET', KEYS[1])
if string.sub(sum, 1, 1) == '-' then
  -- The other way round again: this keeps the time to live, on every version of the server.
  redis.call('INCRBY', KEYS[1], string.sub(sum, 2))
  return '0'
end
return sum
