local function store(key, value, ms)
  if ms == '0' then
    redis.call('DEL', key)
  elseif ms == '-1' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', ms)
  end
end
