"""From declared to actual: observe, plan, apply, report, for every kind. Knows neither kopf nor a Kubernetes client."""
