"""The node operator: kopf, the Kubernetes client and the event loop around `dsg.reconcile`. It only translates."""
