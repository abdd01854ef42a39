-- Moves a repository's head to a staged generation, or changes nothing. dsg/transactions/commit.py says what for.
--
-- All of it lands in one transaction group, but ZFS rolls nothing back when a program stops half-way. So everything is
-- checked before anything is done, what was done is undone should a step be refused all the same, and the record of the
-- head comes last. The pool's sync waits for this program, and a look at one snapshot costs as much as a dozen of these
-- checks: no loop over versions.
local parent, base, base_version, generation, version, transaction, manifest, accepted = table.unpack((...).argv)
local HEAD, VERSION = "org.hrdag.dsg:head", "org.hrdag.dsg:version"
local TRANSACTION, MANIFEST = "org.hrdag.dsg:transaction", "org.hrdag.dsg:manifest"

-- get_prop gives inherited and received values too; only what was set on the dataset itself is a record.
local function own(dataset, name)
  local value, source = zfs.get_prop(dataset, name)
  if source == dataset then return value end
  return ""
end

local function refused(reason, subject, details)
  return { outcome = "refused", reason = reason, subject = subject, details = details }
end

if not zfs.exists(parent) then return refused("parent", parent) end
local head, current = own(parent, HEAD), own(parent, VERSION)

-- The caller may have died after it committed and before it knew.
if own(parent, TRANSACTION) == transaction then
  return { outcome = "committed", head = head, version = current, repeated = true }
end
if head ~= base or current ~= base_version then return { outcome = "moved", head = head, version = current } end

local former, staged = parent .. "/" .. base, parent .. "/" .. generation
local snapshot = staged .. "@" .. version
local first = base_version == ""
local start = ""
if not first then start = former .. "@" .. base_version end

if not zfs.exists(staged) then return refused("staged", staged) end
if base ~= "" and not zfs.exists(former) then return refused("head", former) end

-- The first version begins from nothing; every other from the head's own snapshot, and from no other.
local origin = zfs.get_prop(staged, "origin") or ""
if origin ~= start then return refused("origin", staged, { origin }) end

if base ~= "" then
  -- Bytes written past the transactions would stay behind with the former generation. Somebody's snapshot stays behind
  -- too, but doesn't stop a commit: it holds what the base holds as long as nothing was written since. Before the first
  -- version there is nothing to compare with. Mounting counts as writing, so zero would be too much to ask for.
  local written = first and 0 or zfs.get_prop(former, "written@" .. base_version)
  if written > tonumber(accepted) then return refused("written", former, { written }) end
  -- A promote moves the versions so far into the staged generation; its check can't see the new one, not taken yet.
  if zfs.exists(former .. "@" .. version) then return refused("version", former .. "@" .. version) end
end

-- Each step: a call of zfs.sync, its arguments, and the call that undoes it.
local function set(name, value)
  local before = own(parent, name)
  local undo = before == "" and { "inherit", parent, name } or { "set_prop", parent, name, before }
  return { { "set_prop", parent, name, value }, undo }
end
local function mark(name, value) return { { "set_prop", snapshot, name, value } } end

local steps = {
  { { "snapshot", snapshot }, { "destroy", snapshot } },
  -- The snapshot says whose it is: so that can be told after other transactions have moved the head further.
  mark(TRANSACTION, transaction),
  mark(MANIFEST, manifest),
}
if not first then table.insert(steps, { { "promote", staged }, { "promote", former } }) end
table.insert(steps, set(VERSION, version))
table.insert(steps, set(TRANSACTION, transaction))
table.insert(steps, set(HEAD, generation))

local function run(calls, call) return calls[call[1]](table.unpack(call, 2)) end
local function failed(call, errno, names)
  return { outcome = "refused", reason = "zfs", subject = call[2], step = call[1], errno = errno, details = names }
end

for _, step in ipairs(steps) do
  local call = step[1]
  -- The snapshot isn't there yet; properties of the parent are checked by the same rules.
  if call[2] == snapshot and call[1] == "set_prop" then call = { "set_prop", parent, call[3], call[4] } end
  local errno, names = run(zfs.check, call)
  if errno ~= 0 then return failed(call, errno, names) end
end

for position, step in ipairs(steps) do
  local errno, names = run(zfs.sync, step[1])
  if errno ~= 0 then
    for back = position - 1, 1, -1 do
      local undo = steps[back][2]
      if undo and run(zfs.sync, undo) ~= 0 then error("half done: could not undo " .. undo[1] .. " " .. undo[2]) end
    end
    return failed(step[1], errno, names)
  end
end
return { outcome = "committed", head = generation, version = version, repeated = false }
