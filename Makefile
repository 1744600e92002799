# make test    set up and run all tests          make check   style, without changing anything
# make setup   the environment alone             make format  mend the style

PYTHON_BIN := .venv/bin/python
export MPLBACKEND := Agg

.PHONY: setup test check format

setup: .venv/installed

.venv/installed: requirements_pretrain.txt requirements_detection.txt pyproject.toml example/setup.sh
	bash example/setup.sh -r requirements_detection.txt -e ".[dev]"
	touch $@

test: setup
	$(PYTHON_BIN) -m pytest

check: setup
	$(PYTHON_BIN) -m ruff check .
	$(PYTHON_BIN) -m ruff format --check .

format: setup
	$(PYTHON_BIN) -m ruff check --fix .
	$(PYTHON_BIN) -m ruff format .
