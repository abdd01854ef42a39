-- Any new value asks for a look now; it comes back in status.lastHandledReconcileAt.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["dsg.hrdag.org/requestedAt"] = os.date("!%Y-%m-%dT%XZ")
return obj
