"""The prompt that asks a model how one input of a step should change. Pure: the same step gives the same words.

Untrusted texts stand between fences whose boundary derives from all of them, so that none can contain it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from backtalk.asking import boundary_of, fences
from backward_worker.case import Text
from backward_worker.plan import Target
from backward_worker.quote import quote


class Showing(Protocol):
    """All that is shown of one sample, a dataclass with nothing but texts at its ends; `texts` may be asked about."""

    @property
    def texts(self) -> tuple[Text, ...]: ...


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions about the inputs of one sample; their prompts differ only at the end."""

    shown: str
    fence: Callable[[str, str], str]
    texts: Mapping[str, Text]

    def about(self, target: Target) -> list[dict[str, Any]]:
        """Return the messages that ask about one input."""
        text = self.texts[target.position.path]
        task = _template("variable").render(target=text, fence=self.fence, quote=quote)
        return [
            {"role": "system", "content": _instructions()},
            {"role": "user", "content": self.shown + task},
        ]


def questions(template: str, case: Showing) -> Questions:
    """Write down, by the template of this kind of step, what all questions about one sample have in common."""
    fence = fences(boundary_of(_strings(case)))
    shown = _template(template).render(case=case, fence=fence, quote=quote)
    return Questions(shown, fence, {text.path: text for text in case.texts})


def _strings(shown: Any) -> Iterator[str]:
    """Yield every text in what is shown, however deep."""
    if isinstance(shown, str):
        yield shown
    elif isinstance(shown, tuple):
        for one in shown:
            yield from _strings(one)
    elif is_dataclass(shown):
        for field in fields(shown):
            yield from _strings(getattr(shown, field.name))


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
