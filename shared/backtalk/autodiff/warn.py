"""The one warning of this package."""


class PartialWarning(UserWarning):
    """Some of what was asked for could not be done; the rest is there."""
