-- From now on the operator looks, reports, and changes nothing on the node.
obj.spec.suspend = true
return obj
