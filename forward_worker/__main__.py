"""The forward worker as a process: completion jobs in, results out."""

from __future__ import annotations

import sys

from backtalk.runtime.process import main as run
from backtalk.wire.kinds import FORWARD
from forward_worker.complete import complete


def main() -> int:
    return run(FORWARD, lambda _settings: complete, "Consumes completion jobs and publishes their results.")


if __name__ == "__main__":
    sys.exit(main())
