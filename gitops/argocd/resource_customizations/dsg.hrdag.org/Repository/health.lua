-- A Repository follows kstatus: Ready, Reconciling and Stalled, each with the generation that it speaks of.
-- Until an operator has looked, status.observedGeneration is -1.
local hs = { status = "Progressing", message = "waiting for the operator of the storage node" }

local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return hs
end

local by_type = {}
for _, condition in ipairs(status.conditions or {}) do
  by_type[condition.type] = condition
end

local function is_true(name)
  return by_type[name] ~= nil and by_type[name].status == "True"
end

local ready = by_type["Ready"]
if ready == nil then
  return hs
end
hs.message = ready.reason .. ": " .. ready.message

if is_true("Stalled") or ready.status == "False" then
  hs.status = "Degraded"
elseif obj.spec.suspend then
  hs.status = "Suspended"
elseif is_true("Reconciling") then
  hs.status = "Progressing"
elseif ready.status == "True" then
  hs.status = "Healthy"
end

-- What a person should look at although the repository works. It does not hold up a sync.
for _, name in ipairs({ "Drifted", "UnexpectedData" }) do
  if is_true(name) then
    hs.message = hs.message .. "; " .. by_type[name].reason .. ": " .. by_type[name].message
  end
end

return hs
