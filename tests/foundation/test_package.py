"""Importing the package is cheap, and every public name is there."""

import ast
import importlib
import pathlib
import pickle
import subprocess
import sys

import safetykit_analytics as ska

STUB = pathlib.Path(ska.__file__).with_suffix(".pyi")
PUBLIC = [
    alias.asname
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]
HEAVY = (
    "pandas",
    "pyarrow",
    "numpy",
    "matplotlib",
    "scipy",
    "statsmodels",
    "aiohttp",
    "httpx",
    "pydantic",
    "jinja2",
)


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, safetykit_analytics; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_in_the_stub_loads_and_is_documented():
    assert set(PUBLIC) <= set(dir(ska))
    assert [name for name in PUBLIC if not getattr(ska, name).__doc__] == []


def test_rates_stays_a_function_when_its_module_is_imported():
    code = "import safetykit_analytics.rates, safetykit_analytics as ska; print(callable(ska.rates))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_every_error_survives_a_pickle():
    # Process pools and Dask hand errors over as pickles; one that cannot be rebuilt hangs or hides the cause.
    errors = importlib.import_module("safetykit_analytics.errors")
    for error in (
        errors.MissingApiKey("no key"),
        errors.Unauthorized("refused", status_code=401),
        errors.FetchFailed("gone", batch_id="b", kind="http_status", status_code=404),
        errors.FetchFailures("two", result=None),
        errors.InvalidFrame("wrong"),
        errors.NotAStore("folder"),
        errors.DamagedFile("torn", path="a.parquet"),
        errors.UnknownName("policy", "p", ["q"]),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_an_unknown_name_shows_what_is_known():
    error = ska.UnknownName("policy", "spamm", ["spam", "nudity", "violence"])
    assert str(error) == "no policy 'spamm'; known: 'spam', 'nudity', 'violence'"
    assert error.known == ("spam", "nudity", "violence")
    assert str(ska.UnknownName("policy", "x", [])) == "no policy 'x': there is none at all in this data"


def test_every_error_of_ours_has_one_base_and_a_builtin_where_it_means_one():
    for error, builtin in (
        (ska.MissingApiKey, ValueError),
        (ska.InvalidFrame, ValueError),
        (ska.UnknownName, ValueError),
        (ska.NotAStore, OSError),
        (ska.DamagedFile, OSError),
    ):
        assert issubclass(error, ska.SafetyKitAnalyticsError)
        assert issubclass(error, builtin)


def test_of_many_known_names_the_likely_ones_are_shown_or_else_the_first():
    error = ska.UnknownName("policy", "policy-31x", [f"policy-{number}" for number in range(100)])
    assert "known: 'policy-31'" in str(error)
    assert str(error).endswith(" and 95 more")
    error = ska.UnknownName("policy", "spam", [f"policy-{number}" for number in range(100)])
    assert "known: 'policy-0', 'policy-1'" in str(error)
    assert str(error).endswith("'policy-11' and 88 more")
