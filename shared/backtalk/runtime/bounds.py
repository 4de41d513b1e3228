"""The settings that bound what one message may ask and what all of them may take, and the memory that follows."""

from __future__ import annotations

from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings

from backtalk.runtime.intake import USUAL_ROOM
from backtalk.wire.limits import CONTRACT, Limits

MIB: Final = 1024 * 1024
# what RabbitMQ 4 takes; older brokers are told so by max_message_size
BROKER_MESSAGE_BYTES: Final = 16 * MIB
BURIALS_AT_ONCE: Final = 8
_SUSPECTS_AT_ONCE: Final = 1
# measured, with half as much again: a process that has nothing to do
_IDLE_BYTES: Final = 160 * MIB
# of a message that is filed or handed back, as it came and as it goes; of a body, in pieces and joined
_COPIES: Final = 2
_LEAST_ROOM: Final = 16 * MIB


class Bounds(BaseSettings):
    """Limits that a worker may tighten; what the wire contract says is the most."""

    concurrency: int
    max_wire_bytes: int = Field(
        CONTRACT.wire_bytes, ge=1, le=CONTRACT.wire_bytes, description="bytes of a message, as sent"
    )
    max_body_bytes: int = Field(
        CONTRACT.body_bytes, ge=1, le=CONTRACT.body_bytes, description="bytes of a message, unpacked"
    )
    max_variables: int = Field(
        CONTRACT.variables, ge=1, description="variables of a feedback's graphs; texts of a job"
    )
    max_operations: int = Field(CONTRACT.operations, ge=1, description="operations of a feedback's graphs")
    max_batch: int = Field(CONTRACT.batch, ge=1, le=CONTRACT.batch, description="items of a job")
    max_tools: int = Field(CONTRACT.tools, ge=1, description="tools of a job")
    max_choices: int = Field(
        CONTRACT.choices, ge=1, le=CONTRACT.choices, description="the largest `n` of a job"
    )
    max_bytes_at_once: int = Field(
        USUAL_ROOM,
        ge=_LEAST_ROOM,
        description="memory for what all messages hold and ask; more of them wait their turn",
    )

    def limits(self) -> Limits:
        """Return what a single message may have."""
        return Limits(
            wire_bytes=self.max_wire_bytes,
            body_bytes=self.max_body_bytes,
            variables=self.max_variables,
            operations=self.max_operations,
            batch=self.max_batch,
            tools=self.max_tools,
            choices=self.max_choices,
        )

    def memory_bound(self, message_bytes: int = BROKER_MESSAGE_BYTES) -> int:
        """Return the bytes of memory that no sender can make a worker exceed, on a broker with messages of that size."""
        held = self.concurrency + BURIALS_AT_ONCE + _SUSPECTS_AT_ONCE
        # the last that found room may take as much as there is in all
        return (
            _IDLE_BYTES + _COPIES * (held * message_bytes + self.max_body_bytes) + 2 * self.max_bytes_at_once
        )
