"""A small Kubernetes API server in this process: a model of the real one, for the demonstration and for fast tests.

It serves namespaces, Events, Leases and this project's custom resources, well enough for kubectl, kopf and the official
Python client. It keeps everything in memory. What it does not have: access control (a token says who somebody is, and
everybody may do everything), server-side apply, CEL (the pydantic models check the same rules), admission webhooks,
controllers (but a namespace that is deleted is emptied), protobuf. The suite in tests/demo runs on it and on a real
kube-apiserver alike.
"""
