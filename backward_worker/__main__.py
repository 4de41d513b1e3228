"""The backward worker as a process: feedback in, textual gradients out."""

from __future__ import annotations

import sys
from functools import partial

from backtalk.extras import needs

with needs("workers"):
    from backtalk.runtime.process import main as run
    from backtalk.wire.kinds import BACKWARD
    from backward_worker.differentiate import differentiate


def main() -> int:
    return run(
        BACKWARD,
        lambda settings: partial(
            differentiate, backward_model=settings.backward_model, policy=settings.policy
        ),
        "Consumes feedback on recorded graphs and publishes textual gradients.",
    )


if __name__ == "__main__":
    sys.exit(main())
