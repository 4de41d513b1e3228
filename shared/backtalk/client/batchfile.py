"""What is told of a file that a user named."""

from __future__ import annotations


class BadFile(ValueError):
    """Raised when a file cannot be used; the message names file, line and remedy."""
