"""Run docs/tutorial.ipynb on a stack of its own and write its outputs into it: `make tutorial`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from backtalk.local.stack import stack

NOTEBOOK: Final = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
CELL_SECONDS: Final = 60


async def executed() -> NotebookNode:
    """Return the notebook as it is after a run from top to bottom, without times; raises CellExecutionError."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    async with stack(namespace="tutorial") as running:
        told = {"BACKTALK_AMQP_URL": running.amqp_url, "BACKTALK_NAMESPACE": running.namespace}
        client = NotebookClient(notebook, timeout=CELL_SECONDS, record_timing=False)
        await client.async_execute(env={**os.environ, **told})
    # the version of whoever ran it last
    notebook.metadata.language_info = {"name": "python"}
    return notebook


if __name__ == "__main__":
    nbformat.write(asyncio.run(executed()), NOTEBOOK)  # type: ignore[no-untyped-call]
