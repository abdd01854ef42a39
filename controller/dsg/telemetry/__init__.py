"""What the operator tells about itself: logs, traces, metrics, health, and the HTTP endpoints that serve them.

Operator side only. `setup.telemetry` is entered once at start; `tracing`, `logs.about` and `metrics.ReconcileMetrics`
are used along the way; `health`, `watching` and `login` tie liveness to the Kubernetes watch streams; `endpoints`
serves it all.
"""
