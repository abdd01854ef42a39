"""What all tests share."""

import os

from hypothesis import settings

# A busy machine is no failure: examples may take as long as they take. They are the same every time, so what passes
# on one machine passes on another; `make explore` looks at new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("explore" if os.environ.get("DSG_EXPLORE") else "same")
