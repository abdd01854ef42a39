-- Runs a channel program of OpenZFS in a sandbox: what zcp.c of OpenZFS 2.3 offers, and nothing else.
-- Called with: host (a function outside), the program's text, its arguments, names of errnos, the instruction limit.
local host, source, argv, errnos, limit = ...
local select, error, load, xpcall, type, pack, unpack = select, error, load, xpcall, type, table.pack, table.unpack
local traceback, sethook = debug.traceback, debug.sethook

-- An error is told with the program's own line: two levels up, as none of the calls here is a tail call.
local function answer(fatal, count, ...)
  if fatal then error(fatal, 3) end
  return unpack({ ... }, 1, count)
end

local function direct(library, name)
  return function(...)
    local results = pack(answer(host(library, name, select("#", ...), ...)))
    return unpack(results, 1, results.n)
  end
end

local function iterator(library, name)
  return function(...)
    local rows = answer(host(library, name, select("#", ...), ...))
    local position = 0
    return function()
      position = position + 1
      local row = rows[position]
      if row then return unpack(row, 1, 3) end
    end
  end
end

local function library(name, members, bind)
  local result = {}
  for _, member in ipairs(members) do result[member] = bind(name, member) end
  return result
end

local tasks = { "destroy", "promote", "rollback", "snapshot", "rename_snapshot", "inherit", "bookmark", "set_prop" }
local lists = { "children", "snapshots", "user_properties", "properties", "clones", "bookmarks", "holds" }
local zfs = {
  sync = library("sync", tasks, direct),
  check = library("check", tasks, direct),
  list = library("list", lists, iterator),
  get_prop = direct("zfs", "get_prop"),
  exists = direct("zfs", "exists"),
  debug = direct("zfs", "debug"),
}
zfs.list.system_properties = direct("list", "system_properties")

local function pick(from, members)
  local result = {}
  for _, member in ipairs(members) do result[member] = from[member] end
  return result
end

local global = pick(_G, {
  "assert", "collectgarbage", "error", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawlen", "rawget",
  "rawset", "select", "setmetatable", "tonumber", "tostring", "type",
})
global._G = global
global._VERSION = "Lua 5.2"
global.coroutine = pick(coroutine, { "create", "resume", "running", "status", "wrap", "yield" })
global.string = pick(string, {
  "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub", "upper",
})
global.table = pick(table, { "concat", "insert", "pack", "unpack", "remove", "sort" })
global.zfs = zfs
for name, number in pairs(errnos) do global[name] = number end
getmetatable("").__index = global.string

local function explain(message)
  if type(message) ~= "string" and type(message) ~= "number" then message = nil end
  return traceback(message, 2)
end

local program = load(source, "channel program", "t", global)
sethook(function() error("Channel program timed out.", 0) end, "", limit)
local function finish(good, ...)
  sethook()
  return good, select("#", ...), (...)
end
return finish(xpcall(program, explain, argv))
