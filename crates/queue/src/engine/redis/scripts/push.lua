local ids = {}
for at = 4, #ARGV, PUSH_FIELDS do ids[#ids + 1] = push(at) end
return ids
