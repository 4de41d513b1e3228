"""The prompt that asks a model how one input of a call should change. Pure: the same step gives the same words.

Untrusted texts stand between fences whose boundary derives from all of them, so that none can contain it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from backward_worker.case import Case, Text
from backward_worker.plan import Target
from backward_worker.quote import quote


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions about the inputs of one sample; their prompts differ only at the end."""

    call: str
    fence: Callable[[str, str], str]
    texts: Mapping[str, Text]

    def about(self, target: Target) -> list[dict[str, Any]]:
        """Return the messages that ask about one input."""
        text = self.texts[target.position.path]
        task = _template("variable").render(target=text, fence=self.fence, quote=quote)
        return [
            {"role": "system", "content": _instructions()},
            {"role": "user", "content": self.call + task},
        ]


def questions(shown: Case) -> Questions:
    """Write down what all questions about one sample have in common."""
    fence = _fence(_boundary(shown))
    call = _template("call").render(case=shown, fence=fence, quote=quote)
    return Questions(call, fence, {text.path: text for text in shown.texts})


def _boundary(shown: Case) -> str:
    """Return a boundary that no text of the case contains, the same one for the same case."""
    everything = "\n".join(_strings(shown))
    boundary = hashlib.sha256(everything.encode()).hexdigest()[:12]
    while boundary in everything:
        boundary = hashlib.sha256(boundary.encode()).hexdigest()[:12]
    return boundary


def _strings(shown: Case) -> Iterator[str]:
    yield shown.arguments
    for message in shown.messages:
        yield from (message.role, message.text, message.template or "")
    for output in shown.outputs:
        yield from (output.role, output.text, *(text for one in output.tries for text in one), *output.used)
    for criticism in shown.criticisms:
        yield from (criticism.origin, criticism.text)
    for text in shown.texts:
        yield from (text.path, text.role, text.text, text.place or "")


def _fence(boundary: str) -> Callable[[str, str], str]:
    def fence(kind: str, text: str) -> str:
        return f'<fence-{boundary} kind="{kind}">\n{text}\n</fence-{boundary}>'

    return fence


@cache
def _instructions() -> str:
    return _template("instructions").render()


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("backward_worker", "prompts"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  the reader is a model, and the fences keep texts apart
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{name}.jinja")
