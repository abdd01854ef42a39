"""Moving a repository's head: the commit, and which versions are kept after it."""
