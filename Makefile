# make demo   installs into .venv and writes out/demo.mp4: a photograph speaking
# make test   installs, lints and runs the tests
# A second run installs nothing.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test clean

demo: $(VENV)/installed
	mkdir -p out
	$(BIN)/moda generate assets/astronaut.jpg assets/speech.wav -o out/demo.mp4
	@echo "wrote out/demo.mp4"

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/test_serve.py
	$(BIN)/python -m pytest tests/test_serve.py # in real time, so by itself

clean:
	rm -rf $(VENV) out

$(BIN)/python:
	@$(PYTHON) -c 'import sys; assert (3, 10) <= sys.version_info < (3, 13)' 2>/dev/null || \
		{ echo "moda needs Python 3.10, 3.11 or 3.12; name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "this Python cannot make environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# MediaPipe asks for an OpenCV with windows, which wants libGL; it shares the folder cv2 with the headless build,
# and the one installed last is the one that runs. Should it not be the headless one, it is installed again.
HEADLESS := import cv2.version, sys; sys.exit(not cv2.version.headless)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	$(BIN)/python -c '$(HEADLESS)' 2>/dev/null || $(PIP) --force-reinstall --no-deps opencv-python-headless
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) --editable '.[test]'
	$(BIN)/python -c '$(HEADLESS)' 2>/dev/null || $(PIP) --force-reinstall --no-deps opencv-python-headless
	touch $@

# The agents' clients in an environment of their own, against a server on this machine.
.PHONY: agents
agents: $(VENV)/installed-test
	test -x $(VENV)-agents/bin/python || $(PYTHON) -m venv $(VENV)-agents
	$(VENV)-agents/bin/python -m pip install --quiet --editable 'clients/python[livekit,pipecat]' pytest pillow
	$(BIN)/moda serve --portrait assets/astronaut.jpg --port 8765 --size 128 & pid=$$!; trap "kill $$pid" EXIT; \
	for _ in $$(seq 60); do $(BIN)/python -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8765/healthz")' 2>/dev/null && break; sleep 1; done; \
	MODA_URL=http://127.0.0.1:8765 $(VENV)-agents/bin/python -m pytest -q clients/python
