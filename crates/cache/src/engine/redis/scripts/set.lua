-- Stores, whatever is there. Keys: the key, its lease. Arguments: the value, ms to live.
redis.call('DEL', KEYS[2])
store(KEYS[1], ARGV[1], ARGV[2])
return 1
