-- Stores what the holder of a lease loaded. Keys: the key, its lease. Arguments: the token, the
-- value, ms to live (0: it ends at once, -1: never).
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
store(KEYS[1], ARGV[2], ARGV[3])
return 1
