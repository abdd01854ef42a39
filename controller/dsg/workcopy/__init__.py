"""A researcher's working copy: what lies in its `.dsg`, and clone, init, sync and all that looks at versions."""
