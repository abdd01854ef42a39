"""Repositories on any POSIX file system: the same protocol as on ZFS, by directories and links."""
