# Every target runs in the active environment: pip install -e '.[dev]'
.PHONY: format lint types test heavy check build

format:
	ruff format .
	ruff check --fix .

lint:
	ruff format --check .
	ruff check .
	lint-imports

types:
	mypy

test:
	pytest

# Kill loops, soaks and the large calibration; SKA_HEAVY=0.1 runs a tenth of each.
heavy:
	pytest -m heavy --timeout 1800

check: lint types test

build:
	python -m build
