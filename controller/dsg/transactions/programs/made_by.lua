-- Which version a transaction made after its base, by the head's snapshots; "" when it made none. Reads only: run without
-- sync it holds nothing up, and still sees head, version and snapshots of one moment.
local parent, after, transaction = table.unpack((...).argv)
local HEAD, VERSION, TRANSACTION = "org.hrdag.dsg:head", "org.hrdag.dsg:version", "org.hrdag.dsg:transaction"

local function own(dataset, name)
  local value, source = zfs.get_prop(dataset, name)
  if source == dataset then return value end
  return ""
end

local function number(version) return tonumber(string.match(version, "^s(%d+)$") or 0) end

-- By name, newest first: looking at each snapshot there is would cost more the longer the history.
for position = number(own(parent, VERSION)), number(after) + 1, -1 do
  local version = "s" .. string.format("%d", position)
  local snapshot = parent .. "/" .. own(parent, HEAD) .. "@" .. version
  if zfs.exists(snapshot) and own(snapshot, TRANSACTION) == transaction then return version end
end
return ""
