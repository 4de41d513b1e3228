"""The commands of docs/scaling.md that run a broker and a worker; how fast those are is nobody's promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAR_APART = 1

pytestmark = pytest.mark.timeout(300)


def ran(*arguments):
    """Return what a command prints; figures that are far apart are no failure of it."""
    command = (sys.executable, "-m", "benchmarks.scaling", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, cwd=ROOT)
    assert done.returncode in (0, FAR_APART), done.stderr
    return done.stdout


def test_the_simulation_is_held_against_a_real_worker():
    """Every figure has both sides, and no job was lost on either."""
    told = ran("check", "--lasting", "5", "--model-seconds", "0.1")
    figures = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ", told, re.MULTILINE)
    named = [name.removeprefix("seconds until the answer, ") for name, _, _ in figures]
    assert named == ["mean", "p50", "p95", "p99", "jobs/s"]
    # no answer comes before the model's
    assert all(float(one) >= 0.1 for _, *both in figures for one in both)


def test_a_broker_is_measured_by_size():
    """A row for each, with rates of something."""
    rows = re.findall(r"^\| ([\d,]+) KB \| ([\d,]+) \| .* \| ([\d,]+) \| ", ran("broker"), re.MULTILINE)
    assert [size for size, *_ in rows] == ["2", "16", "128", "1,024"]
    assert all(int(rate.replace(",", "")) > 0 for _, *rates in rows for rate in rates)
