# make demo · make test · make check
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test check setup clean
setup: $(VENV)/.installed

# The stamp is touched last: an interrupted installation starts again.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt scripts/bootstrap.sh
	PYTHON="$(PYTHON)" sh scripts/bootstrap.sh

demo: setup
	$(RUN) scripts/run_pipeline.py preset=demo

test: setup
	$(RUN) -m pytest -n 2 --dist loadfile

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports --config setup.cfg

clean:
	rm -rf $(VENV) runs data/rollouts data/latents
