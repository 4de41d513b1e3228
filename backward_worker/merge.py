"""Several gradients of one text made into one, by questions to the model: nothing is dropped, whatever it takes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from backtalk.wire.errors import Error
from backtalk.wire.policy import Policy
from backward_worker.ask import Asker, Messages, Own, Place, Question
from backward_worker.compose import Part, merger
from backward_worker.fit import fitted, size_of
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.step import Partly
from backward_worker.tokens import estimated

# fewer parts are not divided any more: what is too long of them is cut
_FEW: Final = 4


@dataclass(frozen=True, slots=True)
class Merger:
    """Merges gradients of one text, with its role and what it says; into at most `most` characters, None for any."""

    asker: Asker
    own: Own | None
    place: Place
    role: str
    text: str
    policy: Policy
    most: int | None = None

    async def merge(self, parts: Sequence[Part], *, depth: int) -> TextGradient | Partly[TextGradient]:
        """Return the one gradient; where the model could not be asked, all that was to be merged, as it is, and the error."""
        if not parts:
            return EMPTY
        if len(parts) == 1 and self._is_short(parts[0].text):
            return TextGradient(parts[0].text, "merged", depth=depth - 1)
        asked = 0
        while True:
            groups = self._groups(parts)
            # all of them are waited for, whatever becomes of one: each is paid
            merged = await asyncio.gather(
                *(self._asked(group, asked + at, depth) for at, group in enumerate(groups))
            )
            failed = next((one for one in merged if isinstance(one, Error)), None)
            texts = [
                _joined(group) if isinstance(one, Error) else one
                for group, one in zip(groups, merged, strict=True)
            ]
            if failed is not None:
                raw = TextGradient("\n".join(texts), "merged", depth=depth)
                return Partly(raw, failed, incomplete=False)
            if len(texts) == 1:
                return TextGradient(texts[0], "merged", depth=depth)
            asked, depth = asked + len(groups), depth + 1
            parts = [
                Part(f"Merged from {len(group)} of them", text)
                for group, text in zip(groups, texts, strict=True)
            ]

    def _groups(self, parts: Sequence[Part]) -> Sequence[Sequence[Part]]:
        """Return what one question may hold: everything, else groups of about the square root of their number."""
        if len(parts) < _FEW or size_of(tuple(parts)) <= self._room:
            return [parts]
        size = math.isqrt(len(parts) - 1) + 1
        return [parts[at : at + size] for at in range(0, len(parts), size)]

    async def _asked(self, parts: Sequence[Part], part: int, depth: int) -> str | Error:
        if len(parts) == 1 and self._is_short(parts[0].text):
            return parts[0].text

        def compose() -> Messages:
            fitting = fitted(tuple(parts), self._room)
            return merger(self.role, self.text, fitting, self.most)

        answer = await self.asker.text(Question(replace(self.place, part=part), self.own, depth, compose))
        if isinstance(answer, Error):
            return answer
        # a model that finds nothing in what others said does not unsay it
        return answer.text or _joined(parts)

    @property
    def _room(self) -> int:
        """How many tokens of a prompt are left for what is merged."""
        return max(500, self.policy.prompt_tokens - 700 - estimated(self.text))

    def _is_short(self, text: str) -> bool:
        return self.most is None or len(text) <= self.most


def _joined(parts: Sequence[Part]) -> str:
    return "\n".join(one.text for one in parts)
