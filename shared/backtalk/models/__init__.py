"""Models as a program names them: an endpoint that the workers know, and what its calls have used so far."""

from backtalk.models.backward import (
    BackwardModelClient,
    get_backward_model_client,
    set_backward_model_client,
)
from backtalk.models.client import ModelClient
from backtalk.models.openai import AsyncOpenAI, OpenAI

__all__ = [
    "AsyncOpenAI",
    "BackwardModelClient",
    "ModelClient",
    "OpenAI",
    "get_backward_model_client",
    "set_backward_model_client",
]
