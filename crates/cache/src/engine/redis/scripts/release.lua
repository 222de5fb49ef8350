-- Gives a lease back. Keys: the key, its lease. Arguments: the token.
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
return 1
