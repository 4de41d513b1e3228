"""The model that writes gradients, for the whole process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backtalk.models.client import ModelClient


class BackwardModelClient(ModelClient):
    """The model that backward passes ask, with what they have used so far."""

    def __init__(self, endpoint: str, model: str, completion_args: Mapping[str, Any]) -> None:
        super().__init__(endpoint, **completion_args)
        self.model: str = model


class _Chosen:
    client: BackwardModelClient | None = None


def set_backward_model_client(
    model_path: str,
    client_args: Mapping[str, Any] | None = None,
    completion_args: Mapping[str, Any] | None = None,
) -> None:
    """Choose the model that writes gradients: `endpoint/model`, e.g. `openai/gpt-4o`, split at the first slash.

    `completion_args` go with each of its calls. `client_args` should be empty: keys and addresses stay with the
    workers. Choosing the same again keeps the count of what was used, anything else begins a new one. Raises ValueError
    for a path without a slash; an endpoint that no worker knows is answered at the first backward pass.
    """
    endpoint, slash, model = model_path.partition("/")
    if not slash or not endpoint or not model:
        raise ValueError(f"{model_path!r} should be endpoint/model, e.g. openai/gpt-4o")
    chosen_now = BackwardModelClient(endpoint, model, {**(client_args or {}), **(completion_args or {})})
    if _identity(chosen_now) != _identity(_Chosen.client):
        _Chosen.client = chosen_now


def get_backward_model_client() -> BackwardModelClient:
    """Return the model that writes gradients. Raises RuntimeError before one was chosen."""
    if _Chosen.client is None:
        raise RuntimeError(
            'no backward model was chosen; call set_backward_model_client("openai/gpt-4o") first'
        )
    return _Chosen.client


def chosen() -> BackwardModelClient | None:
    """Return the chosen model; without one each operation's own model writes, or the workers' BACKTALK_BACKWARD_MODEL."""
    return _Chosen.client


def forget_backward_model_client() -> None:
    """Go back to having chosen none."""
    _Chosen.client = None


def _identity(client: BackwardModelClient | None) -> Any:
    return client and (client.endpoint, client.model, client.completion_args)
