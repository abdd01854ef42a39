"""The audit log: who did what to which repository and version, from where, as lines chained by their digests.

`actions` says what is recorded, `record` how a line looks, `log` how lines get onto the disk, `auditor` what happens
when they can't, `verify` what a chain proves. Nothing here knows Kubernetes, storage or the data plane.
"""
