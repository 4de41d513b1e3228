"""A model as a program names it. No key and no address: those stay with the workers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Self

from backtalk.models.usage import COUNTS, Usage, price
from backtalk.wire.jobs import DEFAULT_ENDPOINT

_SECRETS: Final = frozenset(
    {
        "api_key",
        "base_url",
        "default_headers",
        "extra_headers",
        "http_client",
        "organization",
        "project",
    }
)


class ModelClient:
    """Names an endpoint that the workers know, and adds up what its calls have used.

    >>> client = ModelClient("local", model="llama-3", temperature=0)
    >>> client.endpoint, client.get_usage()["total_tokens"]
    ('local', 0)

    `model` and `completion_args` are defaults of its calls. Whether the endpoint exists only a worker can tell: a call
    to an unknown one is answered with a Refused that names those there are.
    """

    def __init__(
        self, endpoint: str = DEFAULT_ENDPOINT, *, model: str | None = None, **completion_args: Any
    ) -> None:
        check_no_secrets(completion_args)
        check_json(completion_args, "completion_args")
        self.endpoint = endpoint
        self.model = model
        self.completion_args: dict[str, Any] = dict(completion_args)
        self.usage = Usage()

    def spend(self, used: Mapping[str, Any], *, model: str | None = None, calls: int = 1) -> None:
        """Add what some calls have used."""
        amount = price(used, endpoint=self.endpoint, model=model or self.model) if calls else Decimal(0)
        for usage in (self.usage, *COUNTS.of(self)):
            usage.add(used, amount, calls=calls)

    def get_usage(self) -> dict[str, Any]:
        """Return tokens with their details, `calls`, and `cost` as `{"amount": dollars or None, "currency": "USD"}`.

        The price is that of the provider the endpoint is named after. A single call of unknown price makes the amount
        None, never 0.
        """
        return self.usage.as_dict()

    def clear_usage(self) -> None:
        """Begin the count anew."""
        self.usage.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = copy.copy(self)
        copied.completion_args = copy.deepcopy(self.completion_args, memo)
        copied.usage = copy.deepcopy(self.usage, memo)
        return copied

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r}, model={self.model!r})"


def check_no_secrets(arguments: Mapping[str, Any]) -> None:
    """Refuse what only a worker may know: it would stand in messages and checkpoints. Raises TypeError."""
    if found := sorted(_SECRETS & arguments.keys()):
        raise TypeError(
            f"{', '.join(found)}: keys and addresses stay with the workers; configure an endpoint there "
            "(OPENAI_API_KEY, OPENAI_BASE_URL, BACKTALK_ENDPOINTS) and name it here"
        )


def check_json(value: Any, path: str) -> None:
    """Refuse what JSON cannot hold. Raises TypeError with the dotted path of the first such value or key."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{path}: key {key!r} is {type(key).__name__}; keys must be texts")
            check_json(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            check_json(item, f"{path}.{at}")
    elif value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"{path}: {type(value).__name__} is nothing that JSON can hold")
