-- One call: what a node tells or asks of some buckets, decided and written at once.
--
-- KEYS: nodes (sorted set: node -> last seen), calls (hash: node -> its last call), then one hash a bucket.
-- ARGV: node, call, 'ask' or 'tell', how long a node lives (ms), then eight a bucket:
--   m(eter), w(indow) or c(ount); amount; need; wish; and of this node: window number; used; held; how long the key lives.
--   A meter is told what is owed as 'used'.
-- Answer: 1 if this call came too late, the nodes alive, then three a bucket: granted, wait in ms (0: it fits), room.
--
-- Numbers are exact: none is above 2^53.
local MINUTE_MS, LATE_MS = 60000, 1000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local node, call, asks, lives = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'ask', tonumber(ARGV[4])

-- A call that a hung connection delivers after a later one says what is no longer so.
local last = redis.call('HGET', KEYS[2], node)
if last and tonumber(last) > call then return {1, 0} end
redis.call('HSET', KEYS[2], node, call)
redis.call('ZADD', KEYS[1], now, node)

local alive, nodes = {}, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now - lives, '+inf')) do
  alive[name] = true
  nodes = nodes + 1
end
if not asks then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - 60 * lives)) do
    redis.call('ZREM', KEYS[1], name)
    redis.call('HDEL', KEYS[2], name)
  end
end

local function meter(key, b)
  local state = redis.call('HMGET', key, 'parts', 'at')
  local parts, at = tonumber(state[1]) or 0, tonumber(state[2]) or now
  if now >= at then
    parts = math.max(0, parts - (now - at) * b.amount)
    at = now
  elseif at - now > LATE_MS then
    at = now
  end
  b.parts, b.at = math.max(0, parts + b.used * MINUTE_MS), at
  b.room = math.floor((b.amount * MINUTE_MS - b.parts) / MINUTE_MS)
  b.wait = math.max(0, math.ceil((b.parts + (b.need - b.amount) * MINUTE_MS) / b.amount))
end

-- Used and held by every node; what dead nodes held is free again, what they used stays used.
local function shares(key, b)
  local fields, taken = redis.call('HGETALL', key), 0
  b.fields = {}
  for i = 1, #fields, 2 do b.fields[fields[i]] = fields[i + 1] end
  if b.kind == 'w' then
    local number = tonumber(b.fields.number) or 0
    if b.number > number or b.number + 1 < number then
      for name in pairs(b.fields) do
        if b.number > number and string.sub(name, 1, 2) == 'u:' then
          redis.call('HDEL', key, name)
          b.fields[name] = nil
        end
      end
      number = b.number
      redis.call('HSET', key, 'number', number)
    end
    if not asks and b.number == number then
      redis.call('HSET', key, 'u:' .. node, b.used)
      b.fields['u:' .. node] = b.used
    end
  end
  if not asks then
    redis.call('HSET', key, 'h:' .. node, b.held)
    b.fields['h:' .. node] = b.held
  end
  for name, value in pairs(b.fields) do
    local what, who = string.sub(name, 1, 2), string.sub(name, 3)
    if what == 'u:' then
      taken = taken + tonumber(value)
    elseif what == 'h:' then
      if alive[who] then taken = taken + tonumber(value) else redis.call('HDEL', key, name) end
    end
  end
  b.room = b.amount - taken
  b.wait = b.need > b.room and 1 or 0
end

local buckets, fits = {}, true
for i = 3, #KEYS do
  local at = 5 + (i - 3) * 8
  local b = {
    kind = ARGV[at], amount = tonumber(ARGV[at + 1]), need = tonumber(ARGV[at + 2]), wish = tonumber(ARGV[at + 3]),
    number = tonumber(ARGV[at + 4]), used = tonumber(ARGV[at + 5]), held = tonumber(ARGV[at + 6]), ttl = ARGV[at + 7],
  }
  if b.kind == 'm' then meter(KEYS[i], b) else shares(KEYS[i], b) end
  if b.need == 0 then b.wait = 0 end
  if b.wait > 0 then fits = false end
  buckets[#buckets + 1] = b
end

local answer = {0, nodes}
for i, b in ipairs(buckets) do
  local key, granted = KEYS[i + 2], 0
  if asks and fits then
    -- Of what is left, a node may take at most half of an equal share ahead: near the end nobody hoards.
    local more = math.min(b.wish, math.floor((b.room - b.need) / (2 * nodes)))
    granted = b.need + math.max(0, more)
  end
  if b.kind == 'm' then
    b.parts = b.parts + granted * MINUTE_MS
    redis.call('HSET', key, 'parts', b.parts, 'at', b.at)
    redis.call('PEXPIRE', key, math.ceil(b.parts / b.amount) + MINUTE_MS)
  else
    if granted > 0 then redis.call('HINCRBY', key, 'h:' .. node, granted) end
    redis.call('PEXPIRE', key, b.ttl)
  end
  answer[#answer + 1] = granted
  answer[#answer + 1] = b.wait
  answer[#answer + 1] = math.max(0, b.room - granted)
end
return answer
