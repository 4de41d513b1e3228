"""The prompts that ask a model how inputs of a step should change. Pure: the same step gives the same words.

Untrusted texts stand between fences whose boundary derives from all of them, so that none can contain it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from backtalk.asking import Fence, boundary_of, fences
from backward_worker.context import Context
from backward_worker.fit import texts_in
from backward_worker.quote import quote
from backward_worker.reads import Text


class Showing(Protocol):
    """All that is shown of one sample, a dataclass with nothing but texts at its ends; `texts` may be asked about."""

    @property
    def texts(self) -> tuple[Text, ...]: ...


class Subject(NamedTuple):
    """A text that is asked about, by its path; `sample` says of which, where several are shown."""

    path: str
    sample: int | None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many samples a batch has, and in words what became of those that are not shown."""

    batch: int
    words: str


@dataclass(frozen=True, slots=True)
class _Named:
    text: Text
    sample: int | None


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions about what is shown; their prompts differ only at the end."""

    shown: str
    fence: Fence
    texts: Mapping[Subject, Text]
    samples: bool = False
    context: bool = False

    def about(self, subjects: Sequence[Subject]) -> list[dict[str, Any]]:
        """Return the messages that ask about one text, or about several at once."""
        several = len(subjects) > 1
        found = [_Named(self.texts[one], one.sample if self.samples else None) for one in subjects]
        if several:
            task = _template("variables").render(subjects=found, fence=self.fence)
        else:
            task = _template("variable").render(
                target=found[0].text, sample=found[0].sample, fence=self.fence
            )
        return [
            {"role": "system", "content": _instructions(several, self.samples, self.context)},
            {"role": "user", "content": self.shown + task},
        ]


def questions(kind: str, case: Showing, sample: int | None, context: Context | None = None) -> Questions:
    """Write down, by the template of this kind of step, what all questions about one sample have in common."""
    fence = fences(boundary_of(texts_in((case, context))))
    shown = _template(kind).render(case=case, texts=case.texts, fence=fence)
    texts = {Subject(text.path, sample): text for text in case.texts}
    return Questions(shown + _context(context, fence), fence, texts, context=context is not None)


def questions_about_samples(
    kind: str, cases: Sequence[tuple[int, Showing]], tally: Tally, context: Context | None = None
) -> Questions:
    """Write down what all questions about several samples have in common."""
    fence = fences(boundary_of(texts_in((tuple(case for _, case in cases), context))))
    texts: dict[Subject, Text] = {}
    listed: dict[str, Text] = {}
    for sample, case in cases:
        for text in case.texts:
            texts[Subject(text.path, sample)] = text
            # where all samples share a text, it is asked about once
            texts.setdefault(Subject(text.path, None), text)
            if text.path not in listed or (text.changes and not listed[text.path].changes):
                listed[text.path] = text
    shown = _template("samples").render(
        kind=kind, cases=cases, texts=list(listed.values()), tally=tally, fence=fence
    )
    return Questions(
        shown + _context(context, fence), fence, texts, samples=True, context=context is not None
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A text to be merged with others, and where it comes from."""

    origin: str
    text: str


def merger(role: str, text: str, parts: Sequence[Part], most: int | None) -> list[dict[str, Any]]:
    """Return the messages that ask for one feedback in the place of several, of at most so many characters."""
    fence = fences(boundary_of([role, text, *(one.text for one in parts)]))
    asked = _template("merge").render(role=role, text=text, parts=parts, most=most, fence=fence)
    return [{"role": "system", "content": _template("merging").render()}, {"role": "user", "content": asked}]


def _context(context: Context | None, fence: Fence) -> str:
    if context is None:
        return ""
    return _template("context").render(context=context.items, left_out=context.left_out, fence=fence)


_INCLUDE: Final = re.compile(r'\{% include "(\w+\.jinja)" %\}\n')


@cache
def _instructions(several: bool, samples: bool, context: bool) -> str:  # noqa: FBT001
    return _template("instructions").render(several=several, samples=samples, context=context)


class _Whole(PackageLoader):
    """Puts what a template includes in its place: a context for each include takes longer than its words."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool] | None]:
        source, path, fresh = super().get_source(environment, template)
        return _INCLUDE.sub(lambda found: self.get_source(environment, found[1])[0], source), path, fresh


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=_Whole("backward_worker", "prompts"),
        undefined=StrictUndefined,
        auto_reload=False,
        autoescape=False,  # noqa: S701  the reader is a model, and the fences keep texts apart
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # as filters: a function that a template calls goes through its context, which takes longer than these
    environment.filters.update(quote=quote, fenced=lambda text, kind, fence: fence(kind, text))
    return environment


@cache
def _template(name: str) -> Template:
    return _environment().get_template(f"{name}.jinja")
