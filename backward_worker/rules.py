"""How each kind of operation passes gradients back: a row for each op, and the test that none is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from backtalk.wire.errors import Error
from backward_worker.ask import Asker
from backward_worker.backward import Rules, Step
from backward_worker.compose import case, questions
from backward_worker.gradient import EMPTY, TextGradient


class AskingRule(Protocol):
    """A rule that may ask the model."""

    async def __call__(
        self, step: Step[TextGradient], /, *, asker: Asker
    ) -> Sequence[TextGradient | Error]: ...


async def chat_completion(step: Step[TextGradient], *, asker: Asker) -> Sequence[TextGradient | Error]:
    """One question for each wanted input and sample; where nothing was criticised there is nothing to ask."""
    spoken = {sample for sample, said in step.received.items() if any(pair[1].gradient.text for pair in said)}
    prepared = {sample: questions(case(step, sample)) for sample in spoken}
    asked = [target for target in step.targets if target.sample in spoken]
    calls = [asker.ask(step.operation, prepared[target.sample].about(target)) for target in asked]
    # a single call needs no task of its own
    replies = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
    answered = dict(zip(asked, replies, strict=True))
    return [answered.get(target, EMPTY) for target in step.targets]


TABLE: Final[Mapping[str, AskingRule]] = {"chat_completion": chat_completion}


def rules(asker: Asker) -> Rules[TextGradient]:
    """Return the table with the model bound to it, for one message."""
    return {op: partial(rule, asker=asker) for op, rule in TABLE.items()}
