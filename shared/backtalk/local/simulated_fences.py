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


def headings(prompt: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """The lines of the prompt itself that look like this; those inside its fences are others'."""
    shut = [match.span() for match in _FENCE.finditer(prompt)]
    return [
        match
        for match in pattern.finditer(prompt)
        if not any(start < match.start() < end for start, end in shut)
    ]


def closing(prompt: str) -> str:
    """What a prompt says in the end, behind its last fence."""
    return prompt.rpartition("</fence-")[2]


def line(text: str) -> str:
    return " ".join(text.split())
