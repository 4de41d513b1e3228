"""Commands that look into a file of jobs, feedback or graphs: nothing is sent, and no model is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from backtalk.cli.console import console, run
from backtalk.client.batchfile import BadFile
from backtalk.drawing import NoDot, read, write

app = typer.Typer()


@app.command(
    epilog="Examples: backtalk render job.json | backtalk render job.json --item 2 --json | backtalk render - < job.json"
)
def render(
    job: Annotated[
        typer.FileBinaryRead,
        typer.Argument(metavar="FILE", help="A job's body, as JSON; - is the standard input."),
    ],
    item: Annotated[int | None, typer.Option(help="Of a batch, only this item (from 0).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole bodies as JSON lines.")] = False,
) -> None:
    """Print exactly what the model would receive for a job, without calling it.

    The worker's settings count: BACKTALK_TOOL_MODE, BACKTALK_TOOL_TEMPLATES and BACKTALK_ENDPOINTS.
    """
    try:
        from backtalk.local import render as rendering
    except ModuleNotFoundError as error:
        raise BadFile(f"{error.name} is missing; pip install 'backtalk[workers]'") from error
    rendered = rendering.rendered(job.read(), item=item)
    for sample, sent in rendered.bodies.items():
        if as_json:
            typer.echo(json.dumps(sent, ensure_ascii=False))
            continue
        if sample is not None:
            typer.echo(f"═══ item {sample}")
        typer.echo(rendering.as_text(sent) + "\n")
    for warning in rendered.warnings:
        console.print(f"backtalk: {warning}", style="yellow", markup=False, highlight=False)


@app.command(
    epilog="Examples: backtalk plan feedback.json | backtalk plan - < feedback.json | backtalk plan --policies"
)
def plan(
    feedback: Annotated[
        typer.FileBinaryRead | None,
        typer.Argument(metavar="FILE", help="A feedback message's body, as JSON; - is the standard input."),
    ] = None,
    policies: Annotated[
        bool, typer.Option("--policies", help="Print the fields of a policy and which go together.")
    ] = False,
) -> None:
    """Print what feedback would take under each policy, without calling a model.

    Calls are those of a model that always criticises, without questions that are asked again; tokens are estimates. The
    worker's settings count: BACKTALK_POLICY and BACKTALK_BACKWARD_MODEL. A * marks what the feedback asks for.
    """
    try:
        from backtalk.local import plan as planning
    except ModuleNotFoundError as error:
        raise BadFile(f"{error.name} is missing; pip install 'backtalk[workers]'") from error
    if policies:
        typer.echo(planning.together())
    elif feedback is not None:
        for line in planning.table(run(planning.planned(feedback.read()))):
            typer.echo(line)
    else:
        raise typer.BadParameter("name a file with feedback, or - for the standard input")


@app.command(
    epilog="Examples: backtalk graph result.json | backtalk graph graph.json --gradients gradients.json --out graph.svg "
    "| backtalk graph - --out graph.dot < feedback.json"
)
def graph(
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(metavar="FILE", help="JSON that holds a graph; - is the standard input."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Where it goes: .html, .dot, .gv, or .svg, which needs Graphviz."),
    ] = Path("graph.html"),
    gradients: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(metavar="FILE", help="The answer to feedback on the graph, as JSON."),
    ] = None,
) -> None:
    """Draw variables, operations and gradients: a page to click through, a picture, or the source of one.

    FILE is a graph, a completion result, a feedback body (fragments are joined), or {"graph": …, "gradients": …}.
    """
    try:
        write(out, *read(file, gradients))
    except (ValueError, NoDot) as error:
        raise BadFile(str(error)) from error
    typer.echo(out)
