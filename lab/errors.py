"""What the lab raises."""


class LabError(Exception):
    """The lab could not do what was asked. The message says what happened and what to do next."""
