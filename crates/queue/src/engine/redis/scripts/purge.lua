-- ARGV: queue, state. Forgets a bounded number of tasks; answers how many, so that it is called
-- again until it answers 0.
local queue, state, purged = ARGV[4], ARGV[5], 0
local function forget(id)
  local unique = redis.call('HGET', task_key(id), 'u')
  forget_unique(unique, id)
  redis.call('DEL', task_key(id))
  purged = purged + 1
end
if state == 'queued' then
  for _, step in ipairs({0, 3, 6, 9}) do
    local messages = redis.call('RPOP', list_key(queue, step), 500) or {}
    for _, message in ipairs(messages) do
      local ok, read = pcall(cjson.decode, message)
      local id = ok and type(read) == 'table' and type(read.headers) == 'table' and read.headers.id
      if type(id) == 'string' then forget(id) else purged = purged + 1 end
    end
  end
  state = 'suspect'
end
local index = state_key(state, queue)
for _, id in ipairs(redis.call('ZRANGE', index, 0, 499)) do
  forget(id)
  redis.call('ZREM', index, id)
end
return purged
