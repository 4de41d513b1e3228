# `make demo` and `make test` set up what they need. Python 3.11 or newer is all that has to be there.
SHELL := /bin/bash
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
BIN := .venv/bin
RABBITMQ := $(wildcard /usr/lib/rabbitmq/bin/rabbitmq-server /opt/homebrew/sbin/rabbitmq-server /usr/local/sbin/rabbitmq-server /opt/rabbitmq/sbin/rabbitmq-server)

.PHONY: help dist setup rabbitmq redis graphviz npm chromium demo learn docs pictures tutorial test test-all fuzz check format bench chaos schemas clean

help:
	@echo "make demo      set up and run the demonstration: no key and no broker needed"
	@echo "make learn     set up and let a vague prompt learn from exact matches: no key and no broker needed"
	@echo "make test      set up and run the whole test suite"
	@echo "make test-all  the same, and what needs Node.js, a browser or other tools from Debian"
	@echo "make check     ruff, mypy, import-linter, known vulnerabilities"
	@echo "make bench     measure speed beside bare aio-pika consumers and TextGrad (about 8 minutes)"
	@echo "make chaos     let things fail under load for 10 minutes, and see that nothing is lost (ARGS=\"--rounds 20\")"
	@echo "make fuzz      send 100,000 random messages through both workers; no broker needed (about 15 minutes)"
	@echo "make setup     only make .venv with everything in it"
	@echo "make docs      build the documentation site: .site/index.html"
	@echo "make pictures  make the pictures of README and docs anew; needs Chromium"
	@echo "make schemas   write docs/schemas and docs/asyncapi.yaml anew from the models"
	@echo "make dist      build the wheel and the source archive into dist/"
	@echo "make format    let ruff format the code"

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python found. Install Python 3.11 or newer."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old; install Python 3.11 or newer, or say make PYTHON=…"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv 2>/dev/null || { scripts/apt-install python3-venv && $(PYTHON) -m venv --clear .venv; }
	@echo "Installing into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip hatchling editables
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[workers]' --group dev
	@touch $@

rabbitmq:
	@test -n "$(RABBITMQ)$(BACKTALK_AMQP_URL)$(BACKTALK_TEST_AMQP_URL)" || command -v rabbitmq-server >/dev/null || scripts/apt-install rabbitmq-server

# remembers paid calls; tests and benchmarks start one of their own
redis:
	@command -v redis-server >/dev/null || scripts/apt-install redis-server

# draws the graphs; without it they are listed, and the tests look at that
graphviz:
	@command -v dot >/dev/null || scripts/apt-install graphviz || echo "Going on without Graphviz."

# the page of docs/asyncapi.yaml is made by a package of npm's
npm:
	@command -v npm >/dev/null || scripts/apt-install npm

chromium:
	@command -v chromium >/dev/null || scripts/apt-install chromium

demo: setup rabbitmq
	@$(BIN)/backtalk demo

learn: setup rabbitmq
	@$(BIN)/python examples/learn.py

# half as many processes again as there are processors: tests wait, too
test: setup rabbitmq redis graphviz
	@$(BIN)/pytest -n $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )) --maxprocesses 6

# what needs more than Python, RabbitMQ and Redis as well: tests/extra
test-all: test .venv/.docs npm chromium
	@$(BIN)/pytest tests/extra

.venv/.docs: .venv/.ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group docs
	@touch $@

# a site that needs no network to be read: open .site/index.html
docs: .venv/.docs npm
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# the pictures of README and docs, made by what they show; needs chromium
pictures: .venv/.docs rabbitmq graphviz chromium
	@$(BIN)/python scripts/pictures.py

tutorial: .venv/.docs rabbitmq
	@$(BIN)/python scripts/tutorial.py

# ARGS goes to pytest; a failure is kept in .hypothesis and tried first the next time
fuzz: setup
	@seed=$${BACKTALK_FUZZ_SEED:-$$RANDOM$$RANDOM}; \
	echo "Seed $$seed; BACKTALK_FUZZ_SEED=$$seed make fuzz sends the same messages again"; \
	BACKTALK_FUZZ_SEED=$$seed BACKTALK_FUZZ_EXAMPLES=$${BACKTALK_FUZZ_EXAMPLES:-100000} \
	$(BIN)/pytest -n auto --maxprocesses 4 --timeout 900 tests/property/test_fuzz.py $(ARGS)

check: setup
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python scripts/audit

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup rabbitmq redis
	@$(BIN)/python -m benchmarks $(NAMES)

chaos: setup rabbitmq redis
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

schemas: setup
	@$(BIN)/backtalk schemas
	@$(BIN)/backtalk asyncapi --namespace backtalk

dist: setup
	@rm -rf dist && $(BIN)/python -m build --no-isolation

clean:
	rm -rf .venv .bench .site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
