-- Stores if what is there is what was read. Keys: the key, its lease. Arguments: the value, ms to
-- live, what was read (absent: there was nothing).
if redis.call('GET', KEYS[1]) ~= (ARGV[3] or false) then
  return 0
end
redis.call('DEL', KEYS[2])
store(KEYS[1], ARGV[1], ARGV[2])
return 1
