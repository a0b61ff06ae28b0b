# make demo · make play · make test · make check · make bench · make fidelity · make results
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo play test check bench fidelity results setup clean
setup: $(VENV)/.installed

# The stamp is touched last: an interrupted installation starts again.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt scripts/bootstrap.sh
	PYTHON="$(PYTHON)" sh scripts/bootstrap.sh

demo: setup
	$(RUN) scripts/run_pipeline.py preset=demo

play: setup
	$(RUN) scripts/play.py

test: setup
	$(RUN) -m pytest -n 2 --dist loadfile

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports --config setup.cfg

bench: setup
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(RUN) benchmarks/run.py

# the fast CarRacing beside the stock one, in full; make test runs a short form
fidelity: setup
	$(RUN) benchmarks/car_racing_fidelity.py

# the tables and pictures of README and docs/results.md from the raw scores in results/
results: setup
	$(RUN) scripts/make_results.py

clean:
	rm -rf $(VENV) runs data/rollouts data/latents
