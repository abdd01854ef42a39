"""What a storage node can do: repository types, ZFS, and the in-memory model of it."""
