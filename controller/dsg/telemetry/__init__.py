"""What the operator tells about itself: logs, traces, metrics, health, and the HTTP endpoints that serve them.

Operator side only. `logs` and `setup` are called once at start; `tracing` and `setup.Telemetry.metrics` are used along
the way; `health`, `watching` and `login` tie liveness to the Kubernetes watch streams; `endpoints` serves it all.
"""
