"""Who may import whom, and that nothing shared is there for one worker alone."""

import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
OURS = ("forward_worker", "backward_worker", "backtalk")
WORKERS = ("forward_worker", "backward_worker")
SHARED = ("backtalk.wire", "backtalk.transport", "backtalk.runtime")
# what does the work: it must be testable without a broker, an SDK or an environment
PURE = (
    "forward_worker.complete",
    "forward_worker.record",
    "backward_worker.backward",
    "backward_worker.rules",
    "backward_worker.differentiate",
    "backtalk.prompt",
)
FOR_OPERATORS = {
    f"backtalk.transport.rabbitmq.{name}" for name in ("browsing", "looking", "probing", "visiting")
}
NO_NAMES = {"utils", "helpers", "common", "core", "manager", "handlers", "shared"}


@pytest.fixture(scope="module")
def imports():
    """Return the graph of imports of all three packages and what they import from outside."""
    return grimp.build_graph(*OURS, include_external_packages=True, cache_dir=None)


@pytest.fixture(scope="module")
def contracts():
    """Return the contracts that `lint-imports` holds the code to."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]


def modules(imports, package):
    """Return the modules of a package that hold code, which is all but packages."""
    return {name for name in imports.find_descendants(package) if not imports.find_children(name)}


def importers(imports, external):
    return {name for name in imports.find_modules_that_directly_import(external) if name.startswith(OURS)}


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("package", SHARED)
def test_every_shared_module_is_reached_from_both_workers(imports, worker, package):
    """What only one of them needs belongs to it; what operators do over AMQP belongs to the transport."""
    reached = imports.find_upstream_modules(f"{worker}.__main__")
    assert modules(imports, package) - reached == FOR_OPERATORS & modules(imports, package)


def test_what_is_for_operators_is_used_by_them(imports):
    """No worker loads it."""
    reached = imports.find_upstream_modules("backtalk.operate", as_package=True)
    assert reached >= FOR_OPERATORS


@pytest.mark.parametrize("worker", WORKERS)
def test_every_module_of_a_worker_is_reached_from_its_entry(imports, worker):
    """Nothing lies around unused."""
    assert modules(imports, worker) - imports.find_upstream_modules(f"{worker}.__main__") == {
        f"{worker}.__main__"
    }


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_imports_neither_the_other_nor_callers(imports, worker):
    """They meet in queues, and clients know nothing of either."""
    reached = imports.find_upstream_modules(worker, as_package=True)
    (other,) = set(WORKERS) - {worker}
    strangers = (other, "backtalk.client", "backtalk.local", "backtalk.cli", "backtalk.autodiff")
    assert {name for name in reached if name.startswith(strangers)} == set()


def test_the_wire_imports_nothing_of_ours_and_only_pydantic(imports):
    """Whoever can read JSON can read it without Backtalk."""
    upstream = {
        name.partition(".")[0] for name in imports.find_upstream_modules("backtalk.wire", as_package=True)
    }
    assert upstream - {"backtalk"} <= {*sys.stdlib_module_names, "pydantic", "pydantic_core"}
    assert not [
        name
        for name in imports.find_upstream_modules("backtalk.wire", as_package=True)
        if name.startswith("backtalk") and not name.startswith("backtalk.wire")
    ]


@pytest.mark.parametrize(
    ("external", "owners"),
    [
        ("aio_pika", ["backtalk.transport.rabbitmq"]),
        ("aiormq", ["backtalk.transport.rabbitmq"]),
        ("pamqp", ["backtalk.transport.rabbitmq"]),
        ("openai", ["backtalk.runtime.openai_client"]),
        ("redis", ["backtalk.runtime.redis_line"]),
        # spans of workers, and the span that a caller of a client is in
        ("opentelemetry", ["backtalk.runtime.otel_tracing", "backtalk.client.traces"]),
    ],
)
def test_each_library_of_the_outside_has_one_owner(imports, external, owners):
    """One package knows AMQP, one module knows the SDK; on either side of the queues one knows OpenTelemetry."""
    if external in imports.modules:
        found = importers(imports, external)
        assert {
            name for name in found if not f"{name}.".startswith(tuple(f"{one}." for one in owners))
        } == set()


@pytest.mark.parametrize("module", PURE)
@pytest.mark.parametrize(
    "external", ["aio_pika", "openai", "opentelemetry", "redis", "pydantic_settings", "structlog"]
)
def test_the_work_itself_knows_no_transport_no_sdk_and_no_settings(imports, module, external):
    """Not even by way of another module."""
    assert external not in imports.find_upstream_modules(module)


def test_prompt_and_transport_import_the_wire_alone(imports):
    """Arrows point inward."""
    for package in ("backtalk.prompt", "backtalk.transport"):
        reached = imports.find_upstream_modules(package, as_package=package != "backtalk.prompt")
        assert {name for name in reached if name.startswith("backtalk.")} <= {
            name
            for name in imports.modules
            if name.startswith(("backtalk.wire", "backtalk.injection", package))
        }


def test_no_module_is_named_after_nothing(imports):
    """A module is named by its domain."""
    assert not {name for name in imports.modules if name.startswith(OURS) and name.split(".")[-1] in NO_NAMES}


def test_no_test_file_bears_a_packages_name():
    """An import of ours must never find a test."""
    assert not {path.stem for path in (ROOT / "tests").rglob("*.py")} & {
        *OURS,
        "shared",
        "wire",
        "transport",
        "runtime",
    }


def test_the_contracts_are_there(contracts):
    """`lint-imports` checks the same in `make check`, and sees what comes from outside."""
    assert set(contracts["root_packages"]) == set(OURS)
    assert contracts["include_external_packages"] is True
    assert {contract["type"] for contract in contracts["contracts"]} >= {
        "independence",
        "forbidden",
        "layers",
    }
    forbidden = {
        module for contract in contracts["contracts"] for module in contract.get("forbidden_modules", ())
    }
    assert {"aio_pika", "openai", "pydantic_settings", "backtalk.client", "backtalk.local"} <= forbidden
    guarded = {
        module
        for contract in contracts["contracts"]
        if "openai" in contract.get("forbidden_modules", ())
        for module in contract["source_modules"]
    }
    assert set(PURE) <= guarded
