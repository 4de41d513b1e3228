"""A result as a line of a file: in OpenAI's form, or in ours, which has all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from backtalk.batches.state import Form
from backtalk.models.usage import price
from backtalk.wire.errors import Code
from backtalk.wire.jobs import DEFAULT_ENDPOINT, CompletionResult

EXPIRED: Final = (
    "batch_expired",
    "This request could not be executed before the completion window expired.",
)
CANCELLED: Final = ("batch_cancelled", "This request was not executed: the batch was cancelled.")


def result_line(answer: CompletionResult, custom_id: str, form: Form) -> bytes:
    """Return an answer as a line; what Backtalk adds stands under `backtalk`, in that form alone."""
    done = answer.status != "failed"
    line: dict[str, Any] = {
        "id": answer.id,
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": answer.id, "body": _body(answer)} if done else None,
        "error": _error(answer, form),
    }
    if form is Form.BACKTALK:
        left_out = {"completions", "schema_version", "id", "error"}
        line["backtalk"] = json.loads(answer.model_dump_json(exclude=left_out))
    return _written(line)


def error_line(id: str, custom_id: str, error: tuple[str, str]) -> bytes:
    """Return the line of a request that has no answer: `error` is its code and a sentence."""
    code, message = error
    told = {"code": code, "message": message}
    return _written({"id": id, "custom_id": custom_id, "response": None, "error": told})


def instead(answer: CompletionResult, *, expired: bool, cancelling: bool) -> tuple[str, str] | None:
    """Return what OpenAI says of a request that failed because its batch ended; None for every other answer."""
    code = answer.error.code if answer.error and answer.status == "failed" else None
    if expired and code is Code.DEADLINE_EXCEEDED:
        return EXPIRED
    return CANCELLED if cancelling and code is Code.CANCELLED else None


def cost(answer: CompletionResult, endpoint: str | None) -> float | None:
    """Return what an answer cost in dollars; None where the price is not known, 0 where nothing was used."""
    if not answer.usage.get("total_tokens"):
        return 0.0
    prices = [
        price(
            used if isinstance(used := completion.get("usage"), dict) else {},
            endpoint=endpoint or DEFAULT_ENDPOINT,
            model=completion.get("model"),
        )
        for completion in answer.completions
        if "error" not in completion
    ]
    known = [one for one in prices if one is not None]
    return float(sum(known, Decimal(0))) if known and len(known) == len(prices) else None


def _error(answer: CompletionResult, form: Form) -> Mapping[str, Any] | None:
    if answer.error is None:
        return None
    if form is Form.BACKTALK:
        return answer.error.model_dump(mode="json")
    # a result is a response or an error there; what items of it failed of, they say themselves
    failed = answer.status == "failed"
    return {"code": answer.error.code.value, "message": answer.error.message} if failed else None


def _body(answer: CompletionResult) -> dict[str, Any]:
    if len(answer.completions) == 1:
        return answer.completions[0]
    return {"object": "list", "data": list(answer.completions)}


def _written(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"
