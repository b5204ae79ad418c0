# make demo      set up .venv and draw samples.png from the shipped fashion model
# make test      run the tests, of each sweep a sample; ARGS="-k ddim" and the like go to pytest
# make full      run the tests and every sweep in full: up to two hours
# make lint      ruff and pyright
# make docs      build docs/_build/html; runs without a network
# make docs-browser   look at its pages in Chromium; ARGS=--few at some of them
# make package   build dist/, install the wheel in a fresh environment and sample there
# make versions  run the quick tests on each other Python found on PATH
# make bench     run the benchmarks; ARGS go to pytest
# make clean     remove what the other targets made, .venv included

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
# One process for each core; where there is one core, pytest's own. ARGS=-n0 for the latter.
PARALLEL := $(if $(filter 1,$(shell getconf _NPROCESSORS_ONLN)),,-n auto --maxprocesses 8 --dist worksteal)

.DEFAULT_GOAL := test
.NOTPARALLEL:
.PHONY: demo test full lint docs docs-browser package versions bench clean

demo: $(VENV)/.stamp-run
	$(PY) -m flowsolve sample --model fashion --solver ddim --nfe 20 -o samples.png

test: $(VENV)/.stamp-test,peers
	$(PY) -m pytest $(PARALLEL) $(ARGS)

full: $(VENV)/.stamp-test,peers
	$(PY) -m pytest $(PARALLEL) --full $(ARGS)

lint: $(VENV)/.stamp-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)

docs: $(VENV)/.stamp-docs
	$(PY) -m sphinx -q -W --keep-going -j auto -b html docs docs/_build/html
	$(PY) docs/check_words.py

docs-browser: docs $(VENV)/.stamp-browser
	$(PY) docs/check_pages.py docs/_build/html $(ARGS)

package: $(VENV)/.stamp-dev
	.ci/package $(PY)

versions: | $(PY)
	.ci/versions $(PY) $(PARALLEL) $(ARGS)

bench: $(VENV)/.stamp-test,peers
	$(PY) -m pytest benchmarks/ --benchmark $(ARGS)

clean:
	rm -rf $(VENV) .venvs docs/_build docs/generated build dist *.egg-info samples*.png
	rm -rf .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	$(PYTHON) -c 'import sys; \
	    sys.exit(sys.version_info < (3, 10) and "flowsolve needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo 'The venv module failed; on Debian and Ubuntu: apt install python3-venv'; exit 1; }

# One stamp for each set of extras that has been installed; a change to the dependencies
# installs it again. azula comes alone: torchvision, which it names but does not need, breaks the
# import of diffusers' networks where it was made for another torch.
$(VENV)/.stamp-%: pyproject.toml constraints.txt | $(PY)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$*]'
	$(if $(findstring peers,$*)$(filter dev,$*),$(PY) -m pip install -q \
	    --disable-pip-version-check --no-deps -c constraints.txt azula)
	@touch $@
