-- Deletes. Keys: the key, its lease. Tells whether there was something.
redis.call('DEL', KEYS[2])
return redis.call('DEL', KEYS[1])
