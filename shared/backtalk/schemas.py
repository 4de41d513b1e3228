"""The JSON Schemas of everything that crosses a queue, for callers in any language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

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


class Published(GenerateJsonSchema):
    """Schemas that other languages' validators agree with."""

    def tagged_union_schema(self, schema: Any) -> JsonSchemaValue:
        """Say `anyOf` where a value chooses its branch by its shape: to JSON Schema a 3 is a number as well."""
        union = super().tagged_union_schema(schema)
        if "discriminator" not in union and "oneOf" in union:
            union["anyOf"] = union.pop("oneOf")
        return union


def schema(name: str) -> str:
    """Return the schema of one message as JSON text."""
    model, mode = MESSAGES[name]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"backtalk:{name}"}
    return (
        json.dumps(
            head | model.model_json_schema(mode=mode, schema_generator=Published),
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )


def write_schemas(folder: Path) -> Iterator[Path]:
    """Write all schemas into a folder and yield their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MESSAGES:
        path = folder / f"{name}.json"
        path.write_text(schema(name), "utf-8")
        yield path
