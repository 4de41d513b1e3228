"""The examples in the docstrings of the API, run as they stand, on the real stack."""

import doctest
import importlib
import pkgutil

import pytest
import structlog

import backtalk

PACKAGES = ("autodiff", "cognitive", "data", "models", "optim", "trainer")
MODULES = (
    "backtalk.functional",
    "backtalk.checkpoint",
    *(
        module.name
        for package in PACKAGES
        for module in pkgutil.iter_modules(
            importlib.import_module(f"backtalk.{package}").__path__, f"backtalk.{package}."
        )
    ),
)
# what a program sees: these say by an example what they are for
SHOWN = (
    "Variable",
    "Parameter",
    "no_grad",
    "set_grad_enabled",
    "is_grad_enabled",
    "connect",
    "function",
    "save",
)


@pytest.fixture
def quiet():
    """Keep the workers, which run in this process, from speaking between the lines of an example."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("program", "quiet")
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run_as_they_stand(name):
    """What a docstring promises is what happens."""
    module = importlib.import_module(name)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(module, name):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_program_uses_has_an_example(name):
    """Public names are documented by something that runs."""
    assert ">>>" in getattr(backtalk, name).__doc__


@pytest.mark.parametrize(
    "package", ["functional", "cognitive", "data", "optim", "models", "autodiff", "trainer"]
)
def test_every_public_name_says_what_it_is(package):
    """Whatever a package exports has a docstring of its own."""
    module = importlib.import_module(f"backtalk.{package}")
    public = [name for name in module.__all__ if callable(getattr(module, name))]
    assert public
    assert [name for name in public if not getattr(module, name).__doc__] == []
