"""The words that are put into prompts for models without tools: Jinja files of the operator's, never of a message's.

A text that is a variable passes through a template as a mark, which is cut out of what the template makes of it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, get_args

from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, PackageLoader, StrictUndefined, Template
from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from backtalk.injection import as_json
from backtalk.wire.base import Role
from backtalk.wire.errors import Code, Refused
from backtalk.wire.tools import MAX_TOKEN, Form, Insert, Segment

NAMES: Final = (
    "call_token",
    "earlier_calls",
    "force_call",
    "function_list",
    "retry",
    "roles",
    "tool_response",
)
ROLES: Final[tuple[Role, ...]] = get_args(Role)


class BadTemplate(ValueError):
    """Raised when a template of the operator's cannot be used; the message names the file."""


@dataclass(slots=True)
class Marks:
    """Marks for variables on their way through a template. No text can hold one: the key is a hash of all of them."""

    key: str
    made: list[tuple[str, Form]] = field(default_factory=list)

    def mark(self, variable: str, form: Form = "text") -> str:
        """Return what stands for a variable in a template."""
        self.made.append((variable, form))
        return f"\x01{self.key}:{len(self.made) - 1}\x01"

    def cut(self, text: str) -> Iterator[Segment]:
        """Yield what a template made, with the variables in the places of their marks.

        Raises ValueError where a mark was changed: a template may print a text as it is, or as JSON.
        """
        past = 0
        for found in _MARK.finditer(text) if self.made else ():
            if found["key"] == self.key:
                yield from self._plain(text[past : found.start()])
                variable, form = self.made[int(found["number"])]
                yield Insert(variable=variable, form="json" if found["escaped"] else form)
                past = found.end()
        yield from self._plain(text[past:])

    def _plain(self, text: str) -> Iterator[str]:
        if self.key in text:
            raise ValueError("changes a text that may be a variable; print it as it is, or with tojson")
        if text:
            yield text


# JSON escapes the control character around a mark, which is how it shows that it stands in a JSON string
_MARK: Final = re.compile(
    r"(?:(?<!\\)(?P<escaped>\\u0001)|\x01)(?P<key>[0-9a-f]+):(?P<number>\d+)(?:\\u0001|\x01)"
)


@dataclass(frozen=True, slots=True)
class Words:
    """The templates of a worker, compiled; what depends on nothing is rendered already."""

    call_token: str
    roles: Mapping[Role, Role]
    templates: Mapping[str, Template]

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Return the default words, or those in a folder; a file that is not in it is the default one.

        Raises BadTemplate for a folder that does not exist and for templates that cannot be rendered.
        """
        environment = _environment(folder)
        templates = {name: _compiled(environment, name) for name in NAMES}
        words = cls(
            call_token=_rendered(templates["call_token"]).strip(),
            roles={role: _role(templates["roles"], role) for role in ROLES},
            templates=templates,
        )
        if not 0 < len(words.call_token) <= MAX_TOKEN:
            raise BadTemplate(
                f"call_token.jinja: is empty, or longer than {MAX_TOKEN} characters; it has to say how a call begins"
            )
        words._try_out()
        return words

    def function_list(
        self,
        tools: Sequence[Mapping[str, Any]],
        *,
        prefix: str | None,
        suffix: str | None,
        required: bool,
        parallel: bool,
        marks: Marks,
    ) -> tuple[Segment, ...]:
        """Return the block for tools of which any may be called, or one must be."""
        told = {
            "tools": tools,
            "prefix": prefix,
            "suffix": suffix,
            "required": required,
            "parallel": parallel,
        }
        return self._block("function_list", marks, told)

    def force_call(
        self, tool: Mapping[str, Any], *, prefix: str | None, suffix: str | None, marks: Marks
    ) -> tuple[Segment, ...]:
        """Return the block for the one tool that must be called."""
        return self._block("force_call", marks, {"tool": tool, "prefix": prefix, "suffix": suffix})

    def earlier_calls(self, calls: Sequence[Mapping[str, Any]]) -> str:
        """Return what an earlier message of the model said by its calls."""
        return self._text("earlier_calls", calls=calls).strip("\n")

    def tool_response(self, id: str | None, name: str | None) -> tuple[str, str]:
        """Return what stands before and after the content of a tool's answer."""
        text = self._text("tool_response", id=id, name=name, content=_CONTENT)
        before, found, after = text.partition(_CONTENT)
        if not found or _CONTENT in after:
            raise _invalid("tool_response", "should print `content` once, as it is")
        return before, after

    def retry(self, problems: Sequence[str]) -> str:
        """Return what a model is told whose calls could not be used."""
        return self._text("retry", problems=problems)

    def _block(self, name: str, marks: Marks, told: Mapping[str, Any]) -> tuple[Segment, ...]:
        text = self._text(name, **told)
        if not (told["suffix"] or "").endswith("\n"):
            text = text.rstrip("\n")
        try:
            return tuple(marks.cut(text))
        except ValueError as error:
            raise _invalid(name, str(error)) from error

    def _text(self, file: str, **told: Any) -> str:
        try:
            return _rendered(self.templates[file], call_token=self.call_token, **told)
        except BadTemplate as error:
            raise Refused(Code.INVALID_TEMPLATE, f"{error} (a template of the worker's operator)") from error

    def _try_out(self) -> None:
        """Render every template once, so that a mistake shows at the start and not in somebody's job."""
        marks = Marks("0123456789abcdef" * 2)
        parameter = {"type": "string", "description": marks.mark("v")}
        tool = {
            "name": "f",
            "description": marks.mark("v"),
            "parameters": {"type": "object", "properties": {"p": parameter}},
        }
        bare = {"name": "f", "description": None, "parameters": None}
        try:
            for text in (None, "", "text", marks.mark("v", "words")):
                for flag in (True, False):
                    _whole(
                        "function_list",
                        self.function_list(
                            [tool, bare], prefix=text, suffix=text, required=flag, parallel=flag, marks=marks
                        ),
                    )
                for one in (tool, bare):
                    _whole("force_call", self.force_call(one, prefix=text, suffix=text, marks=marks))
            self.earlier_calls([{"id": id, "name": "f", "arguments": "{}"} for id in ("1", None)])
            self.tool_response("1", "f")
            self.tool_response(None, None)
            self.retry(["problem"])
        except Refused as refused:
            raise BadTemplate(str(refused)) from refused


# stands for the content of a tool's answer while its template is rendered; nobody can guess it, and JSON
# would change it
_CONTENT: Final = f"\x01{uuid.uuid4().hex}\x01"


def _whole(name: str, block: Iterable[Segment]) -> None:
    """Refuse a template that leaves a piece of a mark: it cut or changed a text that may be a variable."""
    if any(isinstance(segment, str) and "\x01" in segment for segment in block):
        raise _invalid(
            name, "changes or cuts a text that may be a variable; print it as it is, or with tojson"
        )


def _environment(folder: Path | None) -> ImmutableSandboxedEnvironment:
    loaders: list[BaseLoader] = [PackageLoader("forward_worker.tools", "templates")]
    if folder is not None:
        if not folder.is_dir():
            raise BadTemplate(f"{folder} is no folder")
        loaders.insert(0, FileSystemLoader(folder))
    environment = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader(loaders),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # the usual filter writes for web pages: < as an escape
    environment.filters["tojson"] = as_json
    return environment


def _compiled(environment: ImmutableSandboxedEnvironment, name: str) -> Template:
    try:
        return environment.get_template(f"{name}.jinja")
    except (JinjaError, OSError, UnicodeDecodeError) as error:
        raise BadTemplate(f"{name}.jinja: {error}") from error


def _rendered(template: Template, **told: Any) -> str:
    try:
        return template.render(**told)
    except Exception as error:
        raise BadTemplate(f"{template.name}: {type(error).__name__}: {error}") from error


def _role(template: Template, role: Role) -> Role:
    sent = _rendered(template, role=role).strip()
    for known in ROLES:
        if sent == known:
            return known
    raise BadTemplate(f"roles.jinja: gives {sent!r} for {role!r}; it should be one of {', '.join(ROLES)}")


def _invalid(name: str, problem: str) -> Refused:
    return Refused(Code.INVALID_TEMPLATE, f"{name}.jinja: {problem} (a template of the worker's operator)")
