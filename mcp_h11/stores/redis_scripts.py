# SPDX-License-Identifier: MIT
"""The Lua scripts of the store in Redis: each is one step that no other client can see half done.

Rule: a script touches keys of one slot, all of which it is given, so that it runs on a cluster too.  Times come from
the clock of Redis, never from that of a worker.  Scores and versions are microseconds: of 2026 they have 16 digits,
which a double holds exactly (2**53 has 16), so they are written by `%.0f`.

`flags=allow-oom` lets a script run where Redis is at `maxmemory`: those that free memory, and the heartbeat, without
which each worker would look dead.  The others are refused as a whole then, before they changed anything.
"""

from __future__ import annotations

import hashlib

from .base import LOG_EVENT_OVERHEAD, MAX_LOG_BYTES, MAX_LOG_EVENTS


class RedisScript:
    """A script as text, and the hash by which Redis knows it once it has run there."""

    __slots__ = ("sha", "text")

    def __init__(self, flags: str, *parts: str) -> None:
        text = f"#!lua flags={flags}\n" if flags else "#!lua\n"
        self.text = (text + "".join(parts)).encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()  # the name that Redis gives it


_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function text(number) return string.format('%.0f', number) end
"""

# --- records: a hash for each, and four indexes of a space ------------------------------------------------------------
# KEYS: used (key -> last use), ends (key -> end), groups (all of one score: "group key"), group of each key; a record.

_INDEX = """
local used, ends, groups, group_of = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function forget(key)
    redis.call('ZREM', used, key)
    redis.call('ZREM', ends, key)
    local group = redis.call('HGET', group_of, key)
    if group then
        redis.call('HDEL', group_of, key)
        redis.call('ZREM', groups, group .. ' ' .. key)
    end
end
local function forget_ended()
    repeat
        local ended = redis.call('ZRANGEBYSCORE', ends, '-inf', text(now), 'LIMIT', 0, 1000)
        for _, key in ipairs(ended) do forget(key) end
    until #ended < 1000
end
local function use(record, key, ttl)
    redis.call('ZADD', used, text(now), key)
    if ttl == '' then
        redis.call('ZADD', ends, '+inf', key)
        redis.call('PERSIST', record)
    else
        redis.call('ZADD', ends, text(now + ttl * 1000), key)
        redis.call('PEXPIRE', record, ttl)
    end
end
local function keep_indexes()
    local last = redis.call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')[2]
    for n = 1, 4 do
        if last == 'inf' then
            redis.call('PERSIST', KEYS[n])
        elseif last then
            redis.call('PEXPIREAT', KEYS[n], text(math.ceil(last / 1000) + 1000))
        end
    end
end
"""

# ARGV: key, value, ttl in ms or '', limit or '', limit of the group or '', group or '', the key as the caller wrote it,
# 1 where it is hashed.  Returns the version, or 0 where the key is there, -1 where the space is full, -2 the group.
CREATE = RedisScript(
    "",
    _NOW,
    _INDEX,
    """
local record, key, group = KEYS[5], ARGV[1], ARGV[6]
if redis.call('EXISTS', record) == 1 then return 0 end
forget(key)
if ARGV[4] ~= '' or ARGV[5] ~= '' then forget_ended() end
if ARGV[5] ~= '' then
    local there
    if group == '' then
        there = redis.call('ZCARD', used) - redis.call('HLEN', group_of)
    else
        there = redis.call('ZLEXCOUNT', groups, '[' .. group .. ' ', '(' .. group .. '!')
    end
    if there >= tonumber(ARGV[5]) then return -2 end
end
if ARGV[4] ~= '' and redis.call('ZCARD', used) >= tonumber(ARGV[4]) then return -1 end
redis.call('HSET', record, 'version', text(now), 'value', ARGV[2])
if ARGV[8] == '1' then redis.call('HSET', record, 'key', ARGV[7]) end
if group ~= '' then
    redis.call('HSET', group_of, key, group)
    redis.call('ZADD', groups, 0, group .. ' ' .. key)
end
use(record, key, ARGV[3])
keep_indexes()
return now
""",
)

# ARGV: key, value, the version that was read, ttl in ms or ''.  Returns the new version, or 0.
SAVE = RedisScript(
    "",
    _NOW,
    _INDEX,
    """
local record, version = KEYS[5], redis.call('HGET', KEYS[5], 'version')
if version ~= ARGV[3] then return 0 end
local new = math.max(now, version + 1)
redis.call('HSET', record, 'version', text(new), 'value', ARGV[2])
use(record, ARGV[1], ARGV[4])
keep_indexes()
return new
""",
)

# KEYS: the records after the indexes; ARGV: ttl in ms, then their keys.
TOUCH = RedisScript(
    "allow-oom",
    _NOW,
    _INDEX,
    """
for n = 2, #ARGV do
    local record = KEYS[n + 3]
    if redis.call('EXISTS', record) == 1 then use(record, ARGV[n], ARGV[1]) end
end
keep_indexes()
""",
)

DELETE = RedisScript(
    "allow-oom",
    _NOW,
    _INDEX,
    """
forget(ARGV[1])
return redis.call('DEL', KEYS[5])
""",
)

# ARGV: 1 for one group alone, that group, the least idle time in microseconds.  Returns the key, or nothing.
OLDEST = RedisScript(
    "allow-oom",
    _NOW,
    _INDEX,
    """
forget_ended()
local oldest, since
local function look(key)
    local at = tonumber(redis.call('ZSCORE', used, key))
    if not since or at < since then oldest, since = key, at end
end
if ARGV[1] == '1' and ARGV[2] ~= '' then
    local start = #ARGV[2] + 2
    for _, found in ipairs(redis.call('ZRANGEBYLEX', groups, '[' .. ARGV[2] .. ' ', '(' .. ARGV[2] .. '!')) do
        look(string.sub(found, start))
    end
else
    local from = 0
    repeat
        local found = redis.call('ZRANGE', used, from, from + 99)
        for _, key in ipairs(found) do
            if ARGV[1] == '0' or redis.call('HEXISTS', group_of, key) == 0 then look(key) break end
        end
        from = from + 100
    until oldest or #found < 100
end
if oldest and now - since >= tonumber(ARGV[3]) then return oldest end
return false
""",
)

COUNT = RedisScript("no-writes", _NOW, "return redis.call('ZCOUNT', KEYS[1], '(' .. text(now), '+inf')")

# --- logs: a hash for each, whose fields are its state and its events by index; an index of a session's logs ----------
# KEYS: the log, the index (stream -> a time after its end).  The index is written when a third of the time is over, not
# with each event.

_LOG = """
local log, index = KEYS[1], KEYS[2]
local function keep(ttl)
    redis.call('PEXPIRE', log, ttl)
end
local function note(stream, ttl)
    redis.call('ZREMRANGEBYSCORE', index, '-inf', text(now))
    redis.call('ZADD', index, text(now + 2000 * ttl), stream)
    if redis.call('PTTL', index) < 2 * ttl then redis.call('PEXPIRE', index, 2 * ttl) end
end
"""

# ARGV: stream, ttl in ms, writer, about, the index before its first event.
OPEN = RedisScript(
    "",
    _NOW,
    _LOG,
    """
if redis.call('EXISTS', log) == 1 then return end
redis.call('HSET', log, 'last', ARGV[5], 'first', ARGV[5] + 1, 'size', 0, 'ended', 0,
           'writer', ARGV[3], 'about', ARGV[4], 'reader', '', 'ttl', ARGV[2], 'noted', text(now))
keep(tonumber(ARGV[2]))
note(ARGV[1], tonumber(ARGV[2]))
""",
)

# ARGV: stream, index, 1 where the last event is among these, the one reader that the log may have or '', its name
# or '', the events.  An event with a name has two fields more: "=" with the name, and "@" with the index.
# Returns the reader, or nothing where the index is taken, or 1 where the name is.
APPEND = RedisScript(
    "",
    _NOW,
    _LOG,
    f"""
local state = redis.call('HMGET', log, 'last', 'ended', 'first', 'size', 'ttl', 'noted', 'reader', 'named')
local last = tonumber(state[1])
if not last or state[2] ~= '0' or tonumber(ARGV[2]) ~= last + 1 then return false end
if ARGV[4] ~= '' and state[7] ~= '' and state[7] ~= ARGV[4] then return false end
local name = ARGV[5]
if name ~= '' and redis.call('HEXISTS', log, '=' .. name) == 1 then return 1 end
local first, size, ttl = tonumber(state[3]), tonumber(state[4]), tonumber(state[5])
local events = {{}}
for n = 6, #ARGV do
    last = last + 1
    size = size + #ARGV[n] + {LOG_EVENT_OVERHEAD}
    events[#events + 1] = last
    events[#events + 1] = ARGV[n]
end
redis.call('HSET', log, 'last', last, 'ended', ARGV[3], unpack(events))
if name ~= '' then redis.call('HSET', log, '=' .. name, last, '@' .. last, name, 'named', 1) end
while last - first >= {MAX_LOG_EVENTS} or (size > {MAX_LOG_BYTES} and first < last) do
    size = size - redis.call('HSTRLEN', log, first) - {LOG_EVENT_OVERHEAD}
    redis.call('HDEL', log, first)
    local gone = state[8] and redis.call('HGET', log, '@' .. first)
    if gone then redis.call('HDEL', log, '@' .. first, '=' .. gone) end
    first = first + 1
end
redis.call('HSET', log, 'first', first, 'size', size)
keep(ttl)
if now - state[6] > ttl * 300 then
    note(ARGV[1], ttl)
    redis.call('HSET', log, 'noted', text(now))
end
return state[7]
""",
)

# ARGV: the index after which to read or '', 1 to set the reader, the reader.
# Returns the index, last, ended, writer, about, the reader before, then the events; or nothing where one is gone.
READ = RedisScript(
    "allow-oom",
    """
local state = redis.call('HMGET', KEYS[1], 'first', 'last', 'ended', 'writer', 'about', 'reader')
if not state[1] then return false end
local first, last = tonumber(state[1]), tonumber(state[2])
local after = tonumber(ARGV[1]) or first - 1
if after > last or after < first - 1 then return false end
local tail = {after, last, tonumber(state[3]), state[4], state[5], state[6]}
if after < last then
    local indexes = {}
    for n = after + 1, last do indexes[#indexes + 1] = n end
    for _, data in ipairs(redis.call('HMGET', KEYS[1], unpack(indexes))) do tail[#tail + 1] = data end
end
if ARGV[2] == '1' then redis.call('HSET', KEYS[1], 'reader', ARGV[3]) end
return tail
""",
)

# ARGV: stream, ttl in ms, 1 to end the log.
KEEP = RedisScript(
    "allow-oom",
    _NOW,
    _LOG,
    """
local state = redis.call('HMGET', log, 'ended', 'ttl')
if not state[1] or (ARGV[3] == '0' and state[1] == '1') then return end
if ARGV[3] == '1' then redis.call('HSET', log, 'ended', 1) end
keep(tonumber(ARGV[2]))
note(ARGV[1], math.max(tonumber(ARGV[2]), tonumber(state[2])))
redis.call('HSET', log, 'noted', text(now))
""",
)

# ARGV: the stream.
DISCARD_ONE = RedisScript(
    "allow-oom",
    """
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
""",
)

# KEYS: the index.  Returns the streams; the caller deletes their logs.
DISCARD = RedisScript(
    "allow-oom",
    """
local streams = redis.call('ZRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
return streams
""",
)

# --- inboxes: a stream, a count of bytes and the shares of parties for each worker; heartbeats of all -----------------
# KEYS: heartbeats (worker -> its last one), their clock, and where an inbox is concerned, its stream, its bytes and its
# shares ("n" and "b" with a party: its messages and bytes).  A message is in a field that is named by its party.
#
# The clock of heartbeats stands still while Redis does: where no worker came for BEATS_PAUSE, Redis was stopped, away
# or restored from its disk, and none of them could write its heartbeat.  Without that, each would look dead to the
# first that comes back.

BEATS_KEPT = 600_000  # ms after the last heartbeat of the fleet
INBOX_KEPT = 60_000  # ms after the last heartbeat of its worker
BEATS_PAUSE = 2_000  # ms

_CLOCK = f"""
local beats, clock = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local real = math.floor(time[1] * 1000 + time[2] / 1000)
local kept = redis.call('HMGET', clock, 'seen', 'pauses')
local gap, pauses = real - (kept[1] or real), tonumber(kept[2] or 0)
if gap < 0 or gap > {BEATS_PAUSE} then pauses = pauses + gap end
redis.call('HSET', clock, 'seen', real, 'pauses', pauses)
redis.call('PEXPIRE', clock, {BEATS_KEPT})
local now = real - pauses
local function is_alive(worker)
    local at = redis.call('ZSCORE', beats, worker)
    return at and now - at < tonumber(ARGV[1])
end
"""

# ARGV of all: the time in ms that a worker is alive after a heartbeat; the worker.
ENTER = RedisScript(
    "allow-oom",
    _CLOCK,
    "return is_alive(ARGV[2]) and 0 or 1",
)

BEAT = RedisScript(
    "allow-oom",
    _CLOCK,
    f"""
redis.call('ZREMRANGEBYSCORE', beats, '-inf', now - {INBOX_KEPT})
redis.call('ZADD', beats, now, ARGV[2])
redis.call('PEXPIRE', beats, {BEATS_KEPT})
for n = 3, 5 do redis.call('PEXPIRE', KEYS[n], {INBOX_KEPT}) end
""",
)

# ARGV: and the message, most messages, most bytes, the party or '', its most messages, its most bytes.
# Returns 1, or 0 where the worker is not alive, -1 where its inbox is full, -2 where the share of the party is.
PUT = RedisScript(
    "",
    _CLOCK,
    f"""
if not is_alive(ARGV[2]) then return 0 end
local size = (redis.call('GET', KEYS[4]) or 0) + #ARGV[3]
if redis.call('XLEN', KEYS[3]) >= tonumber(ARGV[4]) or size > tonumber(ARGV[5]) then return -1 end
local party = ARGV[6]
if party ~= '' then
    local share = redis.call('HMGET', KEYS[5], 'n' .. party, 'b' .. party)
    local count, bytes = (share[1] or 0) + 1, (share[2] or 0) + #ARGV[3]
    if count > tonumber(ARGV[7]) or bytes > tonumber(ARGV[8]) then return -2 end
    redis.call('HSET', KEYS[5], 'n' .. party, count, 'b' .. party, bytes)
    redis.call('PEXPIRE', KEYS[5], {INBOX_KEPT})
end
redis.call('XADD', KEYS[3], '*', party, ARGV[3])
redis.call('PEXPIRE', KEYS[3], {INBOX_KEPT})
redis.call('SET', KEYS[4], size, 'PX', {INBOX_KEPT})
return 1
""",
)

WORKERS = RedisScript("allow-oom", _CLOCK, "return redis.call('ZRANGEBYSCORE', beats, '(' .. now - ARGV[1], '+inf')")

# KEYS: the stream, its bytes, its shares; ARGV: an id, the bytes of its message and its party, and so on.
ACKNOWLEDGE = RedisScript(
    "allow-oom",
    """
local freed = 0
for n = 1, #ARGV, 3 do
    if redis.call('XDEL', KEYS[1], ARGV[n]) == 1 then
        freed = freed + ARGV[n + 1]
        local count, bytes = 'n' .. ARGV[n + 2], 'b' .. ARGV[n + 2]
        if redis.call('HEXISTS', KEYS[3], count) == 1 then
            redis.call('HINCRBY', KEYS[3], bytes, 0 - ARGV[n + 1])
            if redis.call('HINCRBY', KEYS[3], count, -1) <= 0 then redis.call('HDEL', KEYS[3], count, bytes) end
        end
    end
end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('DECRBY', KEYS[2], freed) end
""",
)

# KEYS: the heartbeats, the stream, its bytes, its shares; ARGV: the worker.
LEAVE = RedisScript(
    "allow-oom",
    """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
""",
)

# KEYS: the format of everything under a prefix; ARGV: that of this version.  Returns the one that is there.
GREET = RedisScript(
    "allow-oom",
    """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
""",
)
