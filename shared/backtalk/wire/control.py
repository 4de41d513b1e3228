"""What all workers are told at once, on the control exchange."""

from __future__ import annotations

from typing import Final

from backtalk.wire.base import SCHEMA_VERSION, Frozen, Identifier, SchemaVersion

CONTROL_TYPE: Final = "control.v1"


class Control(Frozen):
    """An order to all workers: to `cancel` the request of that id, now or when they meet it."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    cancel: Identifier
