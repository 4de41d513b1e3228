"""A batch as OpenAI's Batch API shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backtalk.batches.requests import URL
from backtalk.batches.state import Facts, Plan, Status


def report(plan: Plan, facts: Facts) -> dict[str, Any]:
    """Return the batch object; files are paths instead of ids, and what we add stands under `backtalk`."""
    return {
        "id": plan.id,
        "object": "batch",
        "endpoint": URL,
        "errors": {"object": "list", "data": facts.problems} if facts.problems else None,
        "input_file": str(plan.input),
        "completion_window": None if plan.window_seconds is None else window(plan.window_seconds),
        "status": facts.status.value,
        "output_file": str(plan.output) if facts.output_bytes else None,
        "error_file": str(plan.errors) if facts.error_bytes else None,
        "created_at": int(facts.created_at),
        "in_progress_at": _whole(facts.in_progress_at),
        "expires_at": _whole(facts.expires_at),
        "finalizing_at": _whole(facts.finalizing_at),
        **{f"{status.value}_at": _ended(facts, status) for status in Status if status.ended},
        "cancelling_at": _whole(facts.cancelling_at),
        "request_counts": {"total": facts.total, "completed": facts.completed, "failed": facts.failed},
        "usage": usage(facts.usage),
        "backtalk": {
            "namespace": plan.namespace,
            "format": plan.form.value,
            "sent": facts.sent,
            "expired": facts.expired,
            "cost": {"amount": None if facts.cost is None else round(facts.cost, 9), "currency": "USD"},
        },
    }


def usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sum of chat completions' usage in the words that OpenAI has for a batch's."""
    prompt, completion = (used.get(f"{side}_tokens_details") or {} for side in ("prompt", "completion"))
    return {
        "input_tokens": used.get("prompt_tokens", 0),
        "input_tokens_details": {"cached_tokens": prompt.get("cached_tokens", 0)},
        "output_tokens": used.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": completion.get("reasoning_tokens", 0)},
        "total_tokens": used.get("total_tokens", 0),
    }


def window(seconds: float) -> str:
    """Return a time as `--expires` takes it."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        # OpenAI's own window is 24h, not 1d
        if seconds % length == 0 and (unit != "d" or seconds > length):
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _ended(facts: Facts, status: Status) -> int | None:
    return _whole(facts.ended_at) if facts.status is status else None
