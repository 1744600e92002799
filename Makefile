# make test    set up and run all tests          make check   style, without changing anything
# make setup   the environment alone             make format  mend the style

PYTHON_BIN := .venv/bin/python
export MPLBACKEND := Agg

.PHONY: setup test check format

setup: .venv/installed

.venv/installed: requirements_pretrain.txt requirements_detection.txt pyproject.toml example/setup.sh
	bash example/setup.sh -r requirements_detection.txt -e ".[dev]"
	touch $@

# Stages have modules of the same names, so each one's tests run in a process of their own.
test: setup
	$(PYTHON_BIN) -m pytest tests
	$(PYTHON_BIN) -m pytest pre-training/tests
	$(PYTHON_BIN) -m pytest classification/tests
	$(PYTHON_BIN) -m pytest detection/tests

check: setup
	$(PYTHON_BIN) -m ruff check .
	$(PYTHON_BIN) -m ruff format --check .

format: setup
	$(PYTHON_BIN) -m ruff check --fix .
	$(PYTHON_BIN) -m ruff format .
