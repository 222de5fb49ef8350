-- The limits of `rate/bucket.rs`, in one step for all workers.
-- ARGV: hold, ahead and horizon in microseconds; then for each task the number of its limits, and
-- for each of these its name, interval and slack. Answers for each task with 1 and the time of its
-- turn, or with 0 and the time to ask again.
local hold, ahead, horizon = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now_us = tonumber(now) * 1000
local buckets, used, answer = {}, {}, {}

local function bucket(name)
  if not buckets[name] then
    local is = redis.call('HMGET', prefix .. 'throng:rate:' .. name, 'n', 'l')
    buckets[name] = {next = tonumber(is[1] or '0'), line = tonumber(is[2] or '0')}
  end
  return buckets[name]
end

local at = 7
while at <= #ARGV do
  local limits, turn, later = {}, now_us, 0
  for _ = 1, tonumber(ARGV[at]) do
    local name, interval, slack = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local of = bucket(name)
    of.next = math.min(of.next, now_us + hold + interval)
    of.line = math.min(of.line, now_us + horizon + interval)
    local free = math.max(of.next, now_us - slack)
    turn = math.max(turn, free)
    limits[#limits + 1] = {of = of, interval = interval, slack = slack, free = free}
    used[name] = slack
    at = at + 3
  end
  at = at + 1
  local is_taken = turn <= now_us + hold
  for _, limit in ipairs(limits) do
    local of = limit.of
    if is_taken then
      local is_idle = of.next < now_us - hold
      of.next = math.max(of.next, turn - limit.slack) + limit.interval
      if is_idle then of.line = of.next end
    elseif limit.free > now_us + hold then
      local place = math.max(of.line, of.next)
      if place <= now_us + horizon then of.line = place + limit.interval end
      later = math.max(later, place - ahead)
    end
  end
  answer[#answer + 1] = is_taken and 1 or 0
  answer[#answer + 1] = string.format('%.0f', is_taken and turn or later)
end
for name, slack in pairs(used) do
  local of, key = buckets[name], prefix .. 'throng:rate:' .. name
  redis.call('HSET', key, 'n', string.format('%.0f', of.next), 'l', string.format('%.0f', of.line))
  local left = math.max(of.next + slack, of.line) - now_us
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(left, 0) / 1000 + 60000))
end
return answer
