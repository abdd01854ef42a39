"""The data plane's server: HTTPS on a storage node, in a process that knows neither ZFS nor the Kubernetes API."""
