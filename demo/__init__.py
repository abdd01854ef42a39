"""The demonstration: the main job told as a story, on an embedded API or on the lab. It is not part of the wheel."""
