"""The endpoint that every worker has: the one named `openai`, which may be any server that speaks OpenAI's protocol."""

from __future__ import annotations

from typing import Any

from backtalk.models.client import ModelClient
from backtalk.wire.jobs import DEFAULT_ENDPOINT


class OpenAI(ModelClient):
    """The workers' default endpoint; calls block or are awaited, as the program likes.

    >>> OpenAI(model="gpt-4o", temperature=0.2)
    OpenAI('openai', model='gpt-4o')
    """

    def __init__(self, *, model: str | None = None, **completion_args: Any) -> None:
        super().__init__(DEFAULT_ENDPOINT, model=model, **completion_args)


# the same: every call has a blocking and an awaitable form
AsyncOpenAI = OpenAI
