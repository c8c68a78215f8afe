# The commands of README: each does all the set-up it needs, on a fresh Debian 12 machine too.

VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

.PHONY: run test lint bench install test-daemons clean

run: $(VENV)/.installed
	$(BIN)/amavispy demo

test: $(VENV)/.tested
	$(BIN)/python tests/run.py

lint: $(VENV)/.tested
	$(BIN)/python tests/run.py --lint-only

bench: $(VENV)/.tested
	$(BIN)/python -m bench

install: $(VENV)/.installed
	@echo "installed: $(BIN)/amavispy"

# The package with what it needs to run; system libraries by apt when root, otherwise the command is printed.
$(VENV)/.installed: setup.py packaging/system-packages
	PYTHON=$(PYTHON) sh packaging/system-packages run
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --disable-pip-version-check --editable '.[yara]'
	touch $@

# ... and with what the tests need: linters, and the real daemons the tests talk to.
$(VENV)/.tested: $(VENV)/.installed
	sh packaging/system-packages test
	$(BIN)/pip install -qq --disable-pip-version-check --editable '.[yara,sql,ldap,redis,dns,test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
