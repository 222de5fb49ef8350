-- Reads for one who would load. Keys: the key, its lease. Arguments: stale ms, lease ms, a token.
-- Tells 0 for fresh, 1 for due, 2 for due with the lease, and the value.
local value = redis.call('GET', KEYS[1])
if value then
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 or left > tonumber(ARGV[1]) then
    return {0, value}
  end
end
local won = redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[2])
-- A question that is asked again because its answer was lost has the same token.
if won or redis.call('GET', KEYS[2]) == ARGV[3] then
  return {2, value}
end
return {1, value}
