"""The data plane: how contents of versions travel between a node and a working copy."""
