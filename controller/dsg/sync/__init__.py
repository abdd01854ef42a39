"""Syncing as pure functions: what stands where, what is to be done, and how people decide what clashes."""
