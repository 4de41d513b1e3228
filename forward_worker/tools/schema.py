"""JSON Schemas from messages, checked within bounds: no address is fetched, and no schema holds the worker up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from jsonschema import validators
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from pydantic_core import from_json
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from backtalk.wire.base import escape, shortened
from forward_worker.tools.bounded import TookTooLong, bounded

# of processor time: for the arguments of one call; for one schema, and for all of a job together
ARGUMENTS_SECONDS: Final = 0.05
SCHEMA_SECONDS: Final = 0.25
# the cache is for the tools that all jobs bring, not for anybody's megabytes
_MAX_KEPT: Final = 16_384
_MAX_TOLD: Final = 300


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of a function's parameters."""

    validator: Validator

    def problem(self, arguments: dict[str, Any], seconds: float = ARGUMENTS_SECONDS) -> str | None:
        """Return what is wrong with arguments, in a sentence, None if nothing; `seconds` of processor time to find it."""
        try:
            with bounded(seconds):
                found = best_match(self.validator.iter_errors(arguments))
                return None if found is None else _told(found)
        except TookTooLong:
            return "the schemas take too long to check"
        except Unresolvable as error:
            return f"the schema refers to {error.ref!r}, which is not in it"[:_MAX_TOLD]
        except RecursionError:
            return "the schema refers to itself without end, or is nested too deeply"
        except Exception as error:  # noqa: BLE001  a schema may be odd in more ways than the library has errors for
            return f"the schema cannot be applied ({type(error).__name__})"


def schema_of(text: str) -> Schema:
    """Return the schema in a JSON text. Raises ValueError where it is none, or takes long to check."""
    return _kept(text) if len(text) <= _MAX_KEPT else _made(text)


@lru_cache(maxsize=1024)
def _kept(text: str) -> Schema:
    return _made(text)


def _made(text: str) -> Schema:
    document = from_json(text)
    if not isinstance(document.get("$schema", ""), str):
        raise ValueError("$schema: expected text")
    try:
        with bounded(SCHEMA_SECONDS):
            drafted = validators.validator_for(document, default=validators.Draft202012Validator)
            # not whether patterns are Python's: JSON Schema has those of ECMAScript
            drafted.check_schema(document, format_checker=None)  # type: ignore[call-arg]  # the protocol lags behind
            readable = _readable(document)
    except TookTooLong as error:
        raise ValueError("it takes too long to check; make it smaller") from error
    except SchemaError as error:
        raise ValueError(_told(error)) from error
    except Exception as error:
        raise ValueError(f"it cannot be read ({type(error).__name__})") from error
    # the usual registry would fetch whatever a $ref names
    return Schema(drafted(readable, registry=EMPTY_REGISTRY))


def _readable(schema: Any) -> Any:
    """Return a schema without the patterns that Python cannot read: what they would say is not checked."""
    if isinstance(schema, list):
        return [_readable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _readable(value) for key, value in schema.items()}
    if not _is_pattern(plain.get("pattern", "")):
        del plain["pattern"]
    if isinstance(patterns := plain.get("patternProperties"), dict):
        plain["patternProperties"] = {key: value for key, value in patterns.items() if _is_pattern(key)}
    return plain


def _is_pattern(text: Any) -> bool:
    if not isinstance(text, str):
        return True  # it is the name of something else
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _told(error: ValidationError | SchemaError) -> str:
    path = "/".join(escape(str(step)) for step in error.absolute_path)
    message = shortened(error.message, _MAX_TOLD)
    told = f"{path}: {message}" if path else message
    # a key may be half of a surrogate pair, which nobody could be told
    return told.encode(errors="backslashreplace").decode()
