-- A SyncTransaction follows kstatus: Ready=True when it has committed (or was read to the end), Stalled=True when it ended
-- without a version. Clients open them; they do not belong in Git. This is for those who look at one in Argo CD.
local hs = { status = "Progressing", message = "waiting for the operator of the storage node" }

local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return hs
end

local by_type = {}
for _, condition in ipairs(status.conditions or {}) do
  by_type[condition.type] = condition
end

local ready, stalled = by_type["Ready"], by_type["Stalled"]
if ready == nil then
  return hs
end
hs.message = ready.reason .. ": " .. ready.message

if ready.status == "False" or (stalled ~= nil and stalled.status == "True") then
  hs.status = "Degraded"
elseif ready.status == "True" then
  hs.status = "Healthy"
end

return hs
