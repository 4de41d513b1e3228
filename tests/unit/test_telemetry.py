"""What a worker writes to its log."""

import subprocess
import sys

WARNS = """
import logging
from backtalk.runtime.telemetry import configure

configure("info", "json")
logging.getLogger("library").warning("no member: %s", 'a=b\\r\\n{"event":"done"}\\x1b[2J')
"""


def test_what_a_library_repeats_of_a_header_is_no_line_of_ours():
    """A sender of a bad `tracestate` would write into the log otherwise."""
    ran = subprocess.run([sys.executable, "-c", WARNS], capture_output=True, text=True, check=True)
    assert ran.stderr == 'WARNING library no member: a=b\\r\\n{"event":"done"}\\x1b[2J\n'
