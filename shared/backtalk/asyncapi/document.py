"""The whole document, and its one form as a text: the same models and topology give the same bytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from backtalk.asyncapi.channels import channels
from backtalk.asyncapi.examples import Examples
from backtalk.asyncapi.messages import messages, schemas
from backtalk.asyncapi.operations import operations
from backtalk.transport.topology import DEFAULT_URL, Names, topology
from backtalk.wire.base import SCHEMA_VERSION

_HEAD: Final = "# Written by `make schemas` from the models and the topology: change those.\n"
_WIDTH: Final = 110
_ABOUT: Final = """\
Two workers over RabbitMQ: one completes jobs on OpenAI-compatible models, the other turns criticism of the responses
into textual gradients of the prompts.

The operations are those of the workers, so a caller does the opposite: it *sends* what they receive. AMQP's properties
stand among the headers, and `x-amqp` tells them from real ones. Every queue, exchange and binding that the workers
declare, with its arguments, is in `x-topology`.
"""


def document(names: Names, examples: Examples) -> dict[str, Any]:
    """Return the document of one namespace as plain JSON."""
    whole = {
        "asyncapi": "3.0.0",
        "id": "urn:backtalk",
        "info": {
            "title": "Backtalk",
            "version": str(SCHEMA_VERSION),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": _local()},
        "channels": channels(names),
        "operations": operations(),
        "components": {
            "correlationIds": {
                "call": {
                    "description": "AMQP's property `correlation_id`. An answer bears that of its request, or the id of it.",
                    "location": "$message.header#/correlation_id",
                }
            },
            "securitySchemes": {"user": {"type": "userPassword", "description": "A user of the broker."}},
            "messages": messages(names, examples),
            "schemas": schemas(examples),
        },
        "x-topology": asdict(topology(names)),
    }
    plain: dict[str, Any] = json.loads(json.dumps(whole))
    return plain


def as_yaml(document: dict[str, Any]) -> str:
    """Return a document as YAML, in the order that it has."""
    return _HEAD + yaml.dump(
        document,
        Dumper=_Readable,
        sort_keys=False,
        allow_unicode=True,
        width=_WIDTH,
        default_flow_style=False,
    )


def _local() -> dict[str, Any]:
    """Return the broker of the machine that one develops on."""
    url = urlsplit(DEFAULT_URL)
    variables = {
        "host": {"default": str(url.hostname), "description": "Where the broker is."},
        "port": {"default": str(url.port), "description": "5671 where it speaks TLS, by the protocol amqps."},
    }
    return {
        "host": "{host}:{port}",
        "protocol": urlsplit(DEFAULT_URL).scheme,
        "protocolVersion": "0.9.1",
        "description": "`backtalk local`, or `docker compose up`, starts a broker and both workers.",
        "variables": variables,
        "security": [{"$ref": "#/components/securitySchemes/user"}],
    }


class _Readable(yaml.SafeDumper):
    """Texts of several lines stand as they are, and nothing is an alias of something above."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  the name is PyYAML's
        return True


def _text(dumper: _Readable, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)
