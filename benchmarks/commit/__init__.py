"""What a commit costs, by what it changes, by the size of the repository and by the length of its history."""
