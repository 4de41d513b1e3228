"""The JSON Schemas of everything that crosses a queue, for callers in any language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from backtalk.wire.chunk import CompletionChunk
from backtalk.wire.control import Control
from backtalk.wire.feedback import Feedback, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob, CompletionResult

# requests as they are read, answers as they are written
MESSAGES: Final[dict[str, tuple[type[BaseModel], JsonSchemaMode]]] = {
    "completion.chunk.v1": (CompletionChunk, "serialization"),
    "completion.job.v1": (CompletionJob, "validation"),
    "completion.result.v1": (CompletionResult, "serialization"),
    "control.v1": (Control, "validation"),
    "feedback.v1": (Feedback, "validation"),
    "gradients.v1": (Gradients, "serialization"),
    "graph.v1": (Graph, "validation"),
}


def schema(name: str) -> str:
    """Return the schema of one message as JSON text."""
    model, mode = MESSAGES[name]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"backtalk:{name}"}
    return json.dumps(head | model.model_json_schema(mode=mode), indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> Iterator[Path]:
    """Write all schemas into a folder and yield their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MESSAGES:
        path = folder / f"{name}.json"
        path.write_text(schema(name), "utf-8")
        yield path
