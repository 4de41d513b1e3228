"""The forward worker as a process: completion jobs in, results out."""

from __future__ import annotations

import sys
from functools import partial

from backtalk.extras import needs

with needs("workers"):
    from backtalk.runtime.process import main as run
    from backtalk.wire.kinds import FORWARD
    from forward_worker.complete import complete
    from forward_worker.tools.inject import toolbox


def main() -> int:
    return run(
        FORWARD,
        lambda settings: partial(complete, toolbox=toolbox(settings.tool_templates, settings.tool_modes())),
        "Consumes completion jobs and publishes their results.",
    )


if __name__ == "__main__":
    sys.exit(main())
