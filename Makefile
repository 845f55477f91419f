# make demo | make pets | make new | make sweep | make share | make predict | make app
# make results | make report | make reproduce | make check | make test | make coverage
# make campaign | make benchmark | make benchmark-peers | make soak | make docs

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# DVC runs the stages with the `python` that comes first in PATH.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Of `make sweep` and `make predict`.
VARIANT ?=
TRIALS ?= 12
OUT ?= predicted
PICTURES ?=

.PHONY: demo pets new sweep share predict app results report reproduce check test coverage campaign
.PHONY: benchmark benchmark-peers soak docs install

demo: $(VENV)/installed
	python -m stages.check
	dvc repro
	@echo
	python -m commands.results
	@echo
	@echo 'Look at:'
	@ls reports/dataset/index.html reports/comparison/learning_curves.png reports/comparison/pictures/*.png

pets: $(VENV)/installed
	@git diff --quiet HEAD -- params.yaml || \
	  { echo 'error: Git does not have the changes of params.yaml, which would be lost; commit them' >&2; exit 1; }
	cp profiles/pets.yaml params.yaml
	dvc repro

# make new DATA=data/pictures [FORCE=yes]: params.yaml for a folder of labelled pictures.
new: $(VENV)/installed
	@test -n "$(DATA)" || { echo 'error: name the folder of the pictures: make new DATA=data/pictures' >&2; exit 1; }
	python -m commands.new $(if $(FORCE),--force) "$(DATA)"

# make sweep [VARIANT=fcn8s] [TRIALS=12]
sweep: $(VENV)/sweep-installed
	python -m commands.sweep --variant $(or $(VARIANT),fcn8s) --trials $(TRIALS)

# Pushes the outputs and the run cache to the DVC remote.
share: $(VENV)/installed
	python -m commands.share

# make predict PICTURES="photo.jpg folder" [VARIANT=fcn8s] [OUT=predicted] [REPLACE=yes]
predict: $(VENV)/installed
	@test -n "$(PICTURES)" || { echo 'error: name pictures or folders: make predict PICTURES="photo.jpg folder"' >&2; exit 1; }
	python -m commands.predict $(addprefix --variant ,$(VARIANT)) --out "$(OUT)" $(if $(REPLACE),--replace) $(PICTURES)

# The table of the variants, best first.
results: $(VENV)/installed
	python -m commands.results

# reports/index.html: the results on a page; the folder reports/ can be zipped and mailed.
report: $(VENV)/installed
	python -m commands.report

app: $(VENV)/app-installed
	python -m commands.app

# Runs the last commit's pipeline in a clone, and compares the outputs with dvc.lock.
reproduce: $(VENV)/installed
	python -m commands.reproduce

check: $(VENV)/tests-installed
	ruff check
	ruff format --check
	mypy

test: $(VENV)/tests-installed
	python -m pytest tests

# The same, half as slow again: coverage follows every process.
coverage: $(VENV)/tests-installed
	python -m pytest tests --cov

# The tests that can go on for any length of time, for longer.
campaign: $(VENV)/tests-installed
	CAMPAIGN=yes python -m pytest tests -m campaign

benchmark: $(VENV)/installed
	python -m benchmarks.run
	python -m benchmarks.host

# On the records of this project, in an environment of the peers' own.
benchmark-peers: $(VENV)/installed .venv-peers/installed
	python -m benchmarks.peers.run .venv-peers/bin/python

soak: $(VENV)/installed
	python -m benchmarks.soak

# Generated documents.
docs: $(VENV)/installed
	python -m docs.parameters

install: $(VENV)/installed

# TensorFlow's CUDA packages are installed if an NVIDIA driver answers.
$(VENV)/installed: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo 'error: $(PYTHON) is not Python 3.11, 3.12 or 3.13; select one: make PYTHON=python3.12 ...'; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt -r requirements.txt
	@if nvidia-smi -L > /dev/null 2>&1; then \
	  echo 'NVIDIA GPU found: installing CUDA for TensorFlow'; \
	  $(PIP) install --quiet -c constraints.txt 'tensorflow[and-cuda]'; \
	fi
	@touch $@

$(VENV)/sweep-installed: $(VENV)/installed extras/sweep.txt
	$(PIP) install --quiet -c constraints.txt -r extras/sweep.txt
	@touch $@

$(VENV)/app-installed: $(VENV)/installed extras/app.txt
	$(PIP) install --quiet -c constraints.txt -r extras/app.txt
	@touch $@

.venv-peers/installed: extras/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check install --quiet -r extras/peers.txt
	@touch $@

$(VENV)/tests-installed: $(VENV)/installed tests/requirements.txt $(wildcard extras/*.txt)
	$(PIP) install --quiet -c constraints.txt -r tests/requirements.txt
	@touch $@
