# make test    set up and run all tests          make check   style, spelling and types, without changing anything
# make setup   the environment alone             make format  fix the style
# make docs    the documentation as a site, in build/site
# make lock    renew requirements_lock.txt from the pinned versions; UPGRADE=--upgrade takes what is newest for the rest

PYTHON_BIN := .venv/bin/python
# at most one process for each core, and two at the most: a third would only wait for memory
WORKERS := $(shell n=$$(nproc); echo $$((n < 2 ? n : 2)))
export MPLBACKEND := Agg
# several processes share the cores: their threads must not spin while they wait
export OMP_WAIT_POLICY := passive

.PHONY: setup test check docs format lock

setup: .venv/installed

.venv/installed: requirements_lock.txt pyproject.toml example/setup.sh
	bash example/setup.sh
	touch $@

test: setup
	$(PYTHON_BIN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: setup
	$(PYTHON_BIN) -m ruff check .
	$(PYTHON_BIN) -m ruff format --check .
	$(PYTHON_BIN) -m codespell_lib
	$(PYTHON_BIN) -m mypy

# a link that leads nowhere fails it
docs: export NO_MKDOCS_2_WARNING := 1
docs: setup
	$(PYTHON_BIN) -m mkdocs build --strict

format: setup
	$(PYTHON_BIN) -m ruff check --fix .
	$(PYTHON_BIN) -m ruff format .

lock: setup
	$(PYTHON_BIN) -m pip install --quiet uv
	echo "# The tested set with hashes, for Linux on x86-64 and Python 3.11 to 3.13; renewed by: make lock" > .lock
	$(PYTHON_BIN) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --no-emit-package saratrx --extra dev --extra docs pyproject.toml requirements_detection.txt \
		$(UPGRADE) --quiet --output-file requirements_lock.txt
	cat requirements_lock.txt >> .lock && mv .lock requirements_lock.txt
