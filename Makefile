# Every target runs in the active environment: pip install -e '.[full]'
.PHONY: format lint types test thorough heavy coverage check docs build matrix release-check mutants

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

# Every property on ten times as many examples as every day.
thorough:
	SKA_EFFORT=1 pytest --timeout 1800

# Kill loops, soaks and the large calibration; SKA_HEAVY=0.1 runs a tenth of each.
heavy:
	pytest -m heavy --timeout 1800

# By branches, other processes included; fails below what pyproject.toml asks.
coverage:
	coverage erase
	coverage run -m pytest --timeout 600
	coverage combine -q
	coverage report

check: lint types test

# The site, in build/site/: every reference and link is checked, every notebook runs.
docs:
	rm -rf build/site
	sphinx-build -W --keep-going -j auto -q -c docs -d build/doctrees . build/site

build:
	python -m build

# Every Python that is found here, oldest and newest dependencies, pandas 2 and 3.
matrix:
	.ci/matrix

# pip install -e '.[release]' first; SKA_OFFLINE=1 leaves out the audit.
release-check:
	.ci/release-check

# Small changes to flow, stats and store that the tests should notice; takes hours. .ci/mutants stats does one.
mutants:
	.ci/mutants
