"""The tape: variables, and the operations that read and wrote them, in the order they ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, StrictBool, model_validator

from backtalk.wire.base import (
    SCHEMA_VERSION,
    Data,
    Frozen,
    Identifier,
    Role,
    SchemaVersion,
    absent,
    empty,
    escape,
)
from backtalk.wire.evaluations import Evaluate, Evaluation, Judge
from backtalk.wire.operations import Add, Concat, Edit, Function, Slice, Split, Sum
from backtalk.wire.position import Position
from backtalk.wire.scan import Index, scan
from backtalk.wire.tools import Injected, RecordedTemplates, Tool, refs_in


class Variable(Frozen):
    """A value with a purpose. An id names one value for ever: changed data means a new id.

    `data` is a scalar (text, number, boolean) or a batch: a list of scalars in which null marks a failed item.
    """

    id: Identifier
    data: Data
    role: str
    requires_grad: StrictBool = False
    name: str | None = Field(default=None, exclude_if=absent)
    producer: Identifier | None = Field(default=None, exclude_if=absent)

    def value(self, sample: int | None) -> Any:
        """Return the scalar that item `sample` of a batch sees; a scalar serves every item."""
        if not isinstance(self.data, tuple):
            return self.data
        if sample is None:
            raise ValueError(f"variable {self.id!r} is a batch: name a sample")
        return self.data[sample]


class PartRef(Frozen):
    """Stands in recorded content for a part that is no text; the part itself lies once in `Graph.parts`."""

    part: str


class RecordedMessage(BaseModel):
    """A message whose texts are variable ids; fields of OpenAI that Backtalk does not know are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    role: Role
    content: Annotated[tuple[Identifier | PartRef, ...], Field(fail_fast=True)] | None = None


class ChatCompletion(Frozen):
    """One call of a chat model per sample; one output variable per choice."""

    beside: ClassVar[tuple[str, ...]] = ()

    id: Identifier
    op: Literal["chat_completion"] = "chat_completion"
    endpoint: str
    model: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    messages: Annotated[tuple[RecordedMessage, ...], Field(fail_fast=True)]
    inputs: dict[str, Identifier | Annotated[tuple[Identifier, ...], Field(min_length=1, fail_fast=True)]] = (
        Field(default_factory=dict)
    )
    tools: Annotated[tuple[Tool, ...], Field(fail_fast=True)] | None = Field(default=None, exclude_if=absent)
    tool_choice: JsonValue = Field(default=None, exclude_if=absent)
    tool_templates: RecordedTemplates | None = Field(default=None, exclude_if=absent)
    injected: Injected | None = Field(default=None, exclude_if=absent)
    outputs: Annotated[tuple[Identifier, ...], Field(fail_fast=True)]

    @property
    def sends_tools(self) -> bool:
        """Whether the endpoint got the tools themselves, not only words about them."""
        return self.tools is not None and (self.injected is None or self.injected.mode == "native")

    def positions(self) -> tuple[Position, ...]:
        """Return every read, in the order messages, inputs, tools, templates."""
        found = [
            Position(_content_path(m, c), None, item)
            for m, message in enumerate(self.messages)
            for c, item in enumerate(message.content or ())
            if isinstance(item, str)
        ]
        for name, ids in self.inputs.items():
            path = f"inputs/{escape(name)}"
            if isinstance(ids, str):
                found.append(Position(path, None, ids))
            else:
                found += [Position(path, sample, one) for sample, one in enumerate(ids)]
        if self.tools:
            found += self._tool_positions(self.tools)
        return tuple(found)

    def _tool_positions(self, tools: Sequence[Tool]) -> Iterator[Position]:
        """Yield the texts of tools that the model got to see: of a forced call, those of one function alone."""
        refs = refs_in(tools)
        if self.tool_templates is not None:
            refs += self.tool_templates.refs()
        shown = None if self.sends_tools or self.injected is None else self.injected.shown
        return (Position(path, None, id) for path, id in refs if shown is None or id in shown)

    def part_refs(self) -> tuple[str, ...]:
        return tuple(
            item.part
            for message in self.messages
            for item in message.content or ()
            if isinstance(item, PartRef)
        )


@lru_cache(maxsize=4096)
def _content_path(message: int, item: int) -> str:
    """Return the path of a text; most operations have the same few, and a large graph has many operations."""
    return f"messages/{message}/content/{item}"


Operation: TypeAlias = Annotated[
    ChatCompletion | Add | Sum | Split | Edit | Slice | Concat | Evaluate | Judge | Function,
    Discriminator("op"),
]
OPS: Final = tuple(str(one.model_fields["op"].default) for one in get_args(get_args(Operation)[0]))


class Graph(Frozen):
    """Variables and operations in the order they ran; an operation reads only what stands before it.

    A graph may hold a variable whose `producer` it does not hold: a fragment of a larger one.
    Raises ValidationError where the tape contradicts itself.
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    variables: Annotated[tuple[Variable, ...], Field(fail_fast=True)] = ()
    operations: Annotated[tuple[Operation, ...], Field(fail_fast=True)] = ()
    parts: dict[str, dict[str, JsonValue]] = Field(default_factory=dict, exclude_if=empty)

    @model_validator(mode="after")
    def _consistent(self) -> Graph:
        _ = self.index
        return self

    @cached_property
    def index(self) -> Index:
        """What the one scan of the tape found: lookups by id, writers, positions, batches."""
        return scan(self)

    @cached_property
    def edits(self) -> Mapping[str, Sequence[str]]:
        """What the program put in the place of a variable: ids, by the variable's id."""
        found: dict[str, list[str]] = {}
        for operation in self.operations:
            if isinstance(operation, Edit):
                found.setdefault(operation.inputs[0], []).append(operation.outputs[0])
        return found

    def leaves(self) -> tuple[Variable, ...]:
        """Return the variables that no operation wrote."""
        return tuple(variable for variable in self.variables if variable.producer is None)

    def parameters(self) -> tuple[Variable, ...]:
        """Return the leaves that want a gradient."""
        return tuple(variable for variable in self.leaves() if variable.requires_grad)

    def writer(self, variable: str) -> Operation | None:
        """Return the operation that wrote a variable, None where the graph holds none."""
        at = self.index.writers.get(variable)
        return None if at is None else self.operations[at]

    def samples(self, variable: str) -> int | None:
        """Return how many items a variable has; the one score of an evaluation is about all that it measured."""
        if isinstance(self.writer(variable), Evaluation):
            return self.index.batches[self.index.writers[variable]]
        data = self.index.variables[variable].data
        return len(data) if isinstance(data, tuple) else None

    def requires_grad(self, variable: str) -> bool:
        """Tell whether a variable transmits a gradient: derived where it was written, stated on leaves."""
        return self.index.requires_grad[variable]

    @staticmethod
    def join(*fragments: Graph) -> Graph:
        """Compose fragments into one graph; equal entries merge.

        Raises Refused with code `graph_conflict` where two fragments contradict each other.
        """
        from backtalk.wire.join import join  # noqa: PLC0415  it builds graphs itself

        return join(fragments)
