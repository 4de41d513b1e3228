"""How the simulated model reads the material in a prompt: what stands in fences, each with its kind."""

import re
from collections.abc import Iterator

_FENCE = re.compile(
    r'<fence-(?P<boundary>[0-9a-f]+)\s[^>]*?kind="(?P<kind>\w+)"[^>]*>(?P<text>.*?)</fence-(?P=boundary)>',
    re.DOTALL | re.IGNORECASE,
)


def fenced(prompt: str) -> Iterator[tuple[str, str]]:
    """The kind and the text of every fence; a fence inside another one is only text."""
    return ((match["kind"], match["text"]) for match in _FENCE.finditer(prompt))


def line(text: str) -> str:
    return " ".join(text.split())
