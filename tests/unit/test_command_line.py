"""What all verbs of the command line have in common."""

import subprocess
import sys

# ten seconds of patience are too many for a test
UNREACHABLE = """
import sys
from backtalk.cli import dead
from backtalk.cli.main import main
dead.PATIENCE = 1.5
sys.argv[1:] = ["dead", "list", "--url", "amqp://127.0.0.1:1/"]
main()
"""


def test_a_broker_that_is_not_there_is_told_once_and_with_a_remedy():
    """However often it was tried: libraries have nothing to say to the user of a command."""
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("backtalk: no broker answered within 1.5 s (")
    assert done.stderr.endswith("); check BACKTALK_AMQP_URL or --url, and that the broker runs\n")
    assert done.stderr.count("\n") == 1
