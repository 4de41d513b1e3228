"""Messages and schemas: the wire's models, what each message carries, and the golden ones as examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from backtalk.asyncapi import properties
from backtalk.asyncapi.examples import Examples
from backtalk.schemas import MESSAGES, Published
from backtalk.transport.envelope import ACCEPT_ENCODING, ATTEMPT, REASON
from backtalk.transport.topology import Names
from backtalk.wire.chunk import CHUNK_TYPE
from backtalk.wire.control import CONTROL_TYPE
from backtalk.wire.errors import RETRYABLE, Code
from backtalk.wire.kinds import BACKWARD, FORWARD

AMQP: Final = {"bindingVersion": "0.3.0"}
REQUESTS: Final = (FORWARD.request_type, BACKWARD.request_type)
ANSWERS: Final = (FORWARD.answer_type, BACKWARD.answer_type, CHUNK_TYPE)
DEAD: Final = "dead."
_SCHEMAS: Final = "#/components/schemas/{model}"

_TITLES: Final = {
    FORWARD.request_type: "A job",
    FORWARD.answer_type: "The result of a job",
    CHUNK_TYPE: "A piece of a result, while the model writes",
    BACKWARD.request_type: "Feedback on the outputs of a graph",
    BACKWARD.answer_type: "The gradients of feedback",
    CONTROL_TYPE: "An order to all workers",
}


def messages(names: Names, examples: Examples) -> dict[str, Any]:
    """Return every message: requests, answers, the order, and requests that were given up."""
    carried = {
        **{type: properties.request(type, names) for type in REQUESTS},
        **{type: properties.answer(type, names) for type in ANSWERS},
        CONTROL_TYPE: properties.order(CONTROL_TYPE),
    }
    told = {type: _message(type, headers, names, examples) for type, headers in carried.items()}
    dead = {f"{DEAD}{type}": _letter(type, told[type], names) for type in REQUESTS}
    return {**told, **dead}


def _message(type: str, headers: dict[str, Any], names: Names, examples: Examples) -> dict[str, Any]:
    model, _ = MESSAGES[type]
    correlated = (
        {} if type == CONTROL_TYPE else {"correlationId": {"$ref": "#/components/correlationIds/call"}}
    )
    return {
        "name": type,
        "title": _TITLES[type],
        "summary": _first_line(model),
        "contentType": "application/json",
        **correlated,
        "headers": headers,
        "payload": {"$ref": _SCHEMAS.format(model=model.__name__)},
        "bindings": {"amqp": {"messageType": type, **AMQP}},
        "examples": [
            {"name": name, "headers": _headers(type, names), "payload": body}
            for name, body in examples[type].items()
        ],
    }


def _letter(type: str, told: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Return a request as it lies in a dead queue."""
    changed = {
        "title": f"{_TITLES[type]}, given up",
        "summary": "A copy of a request that could not be processed, with the reason. Its sender was answered.",
        "headers": properties.letter(type, names),
    }
    reason = {REASON: Code.INVALID_MESSAGE.value, f"{REASON}-text": "model: is missing; add it"}
    headers = {**_headers(type, names), **reason}
    broken = [{"name": f"{DEAD}{type}", "headers": headers, "payload": {}}]
    # what lies there may be anything, and is no JSON at worst
    return {**told, **changed, "payload": {}, "examples": broken}


def _headers(type: str, names: Names) -> dict[str, Any]:
    """Return what an example carries, and no more than is told apart by it."""
    if type == CONTROL_TYPE:
        return {"type": type}
    called = {"message_id": "job-17", "correlation_id": "call-17", "type": type}
    if type in REQUESTS:
        return {**called, "reply_to": names.replies("mine"), "timestamp": 1767225600, ACCEPT_ENCODING: "gzip"}
    sent = {"message_id": "0ef9a1c4-1b6e-5d0a-9c57-0d8f4c1f6f02", "content_type": "application/json"}
    return {**called, **sent, "timestamp": 1767225604, ATTEMPT: 0}


def schemas(examples: Examples) -> dict[str, Any]:
    """Return the schemas of all models by name, in the draft of JSON Schema that AsyncAPI builds on."""
    _, found = models_json_schema(list(MESSAGES.values()), ref_template=_SCHEMAS, schema_generator=_Untitled)
    translated = {name: _as_draft_7(schema) for name, schema in found["$defs"].items()}
    retryable = ", ".join(sorted(RETRYABLE))
    translated[Code.__name__]["description"] = (
        f"Sending the very same request again may help with {retryable}."
    )
    for type, (model, _) in MESSAGES.items():
        # those that are no messages themselves: a graph travels in results and in feedback
        if type not in _TITLES:
            translated[model.__name__]["examples"] = list(examples[type].values())
    return translated


class _Untitled(Published):
    """Schemas whose fields have no titles: pydantic's repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  the name is pydantic's
        return False


def _as_draft_7(schema: Any) -> Any:
    """Return a schema without what came after draft 7, and without OpenAPI's discriminator, told by a `const` anyway."""
    if isinstance(schema, list):
        return [_as_draft_7(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {"items" if key == "prefixItems" else key: _as_draft_7(value) for key, value in schema.items()}
    if "oneOf" in renamed:
        renamed.pop("discriminator", None)
    return renamed


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0]
