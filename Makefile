# make demo    set up .venv and draw samples.png from the shipped digits model
# make test    run the tests; ARGS="-k ddim" and the like go to pytest
# make lint    ruff and pyright
# make docs    build docs/_build/html; runs without a network
# make bench   run the benchmarks; ARGS go to pytest
# make clean   remove what the other targets made, .venv included

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=

.DEFAULT_GOAL := test
.NOTPARALLEL:
.PHONY: demo test lint docs bench clean

demo: $(VENV)/.stamp-run
	$(PY) -m flowsolve sample --solver ddim --nfe 20 -o samples.png

test: $(VENV)/.stamp-test,peers
	$(PY) -m pytest $(ARGS)

lint: $(VENV)/.stamp-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)

docs: $(VENV)/.stamp-docs
	$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	$(PY) docs/check_math.py docs/_build/html

bench: $(VENV)/.stamp-test,peers
	$(PY) -m pytest benchmarks/ --benchmark $(ARGS)

clean:
	rm -rf $(VENV) docs/_build docs/generated build *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks samples*.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "flowsolve needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'The venv module failed; on Debian and Ubuntu: apt install python3-venv'; exit 1; }

# One stamp for each set of extras that has been installed; a change to the dependencies installs it again.
$(VENV)/.stamp-%: pyproject.toml constraints.txt | $(PY)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
