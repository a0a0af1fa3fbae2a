"""Every public name says what it takes, gives and raises, with an example that runs."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import safetykit_analytics as ska
from safetykit_analytics import simulator
from tests.docs.helpers import PUBLIC, ROOT, run_examples

# What numpydoc checks and we promise. Left out: descriptions of parameters whose name and type say it all
# (PR07), full stops and capitals inside sections, "See Also" everywhere, and a blank line at the end.
CHECKS = {
    *("GL05", "GL06", "GL07", "GL08", "GL10"),
    *("SS01", "SS02", "SS03", "SS04", "SS05", "SS06"),
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR10"),
    *("RT01", "YD01"),
}


FUNCTIONS = [name for name in PUBLIC if inspect.isfunction(getattr(ska, name))]
CLASSES = [
    name
    for name in PUBLIC
    if inspect.isclass(getattr(ska, name)) and not issubclass(getattr(ska, name), BaseException)
]
ERRORS = [
    name
    for name in PUBLIC
    if inspect.isclass(getattr(ska, name)) and issubclass(getattr(ska, name), BaseException)
]


def _methods(name: str) -> list[tuple[str, object]]:
    """The public methods and properties that a class of ours defines itself."""
    found = []
    for attribute, value in vars(getattr(ska, name)).items():
        if attribute.startswith("_") or attribute == "model_config":
            continue
        of_class = isinstance(value, (property, classmethod, staticmethod)) or inspect.isfunction(value)
        if of_class:
            found.append(
                (
                    f"{name}.{attribute}",
                    value if isinstance(value, property) else getattr(getattr(ska, name), attribute),
                )
            )
    return found


METHODS = [method for name in CLASSES for method in _methods(name)]


def _has_twin(name: str) -> bool:
    """Whether a coroutine says all by naming its blocking twin: `afetch_batches`, `FetchResult.aretry`."""
    *of_class, last = name.split(".")
    owner = getattr(ska, *of_class) if of_class else ska
    twin = last.removeprefix("a")
    return (
        last.startswith("a") and hasattr(owner, twin) and f"`{twin}`" in (getattr(owner, last).__doc__ or "")
    )


def _sections(value: object):
    # Sphinx is loaded where it is used: every worker collects these tests, and one runs them.
    numpydoc = pytest.importorskip("numpydoc.docscrape_sphinx", reason="no numpydoc: pip install '.[full]'")
    return numpydoc.get_doc_object(value)


def _complaints(name: str, value: object) -> list[str]:
    doc = _sections(value)
    from numpydoc.validate import validate

    # What a result holds is under Attributes: nobody but this package makes one.
    made_by_us = name in ERRORS or dataclasses.is_dataclass(value) or hasattr(value, "model_fields")
    not_asked = {"PR01", "PR02", "PR03"} if made_by_us else {"PR01", "RT01"} if _has_twin(name) else set()
    found = validate(doc)["errors"]
    return [f"{code}: {text}" for code, text in found if code in CHECKS - not_asked]


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *ERRORS])
def test_the_docstring_of_every_public_name_is_whole(name):
    assert _complaints(name, getattr(ska, name)) == []


@pytest.mark.parametrize(("name", "value"), METHODS, ids=[name for name, _ in METHODS])
def test_the_docstring_of_every_public_method_is_whole(name, value):
    assert _complaints(name, value) == []


@pytest.mark.parametrize("name", CLASSES)
def test_every_field_of_a_result_is_described(name):
    value = getattr(ska, name)
    fields = {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
    fields |= set(getattr(value, "model_fields", ()))
    described = {
        one.strip() for attribute in _sections(value)["Attributes"] for one in attribute.name.split(",")
    }
    assert {field for field in fields if not field.startswith("_")} <= described


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_every_public_function_and_class_has_an_example(name):
    sections = _sections(getattr(ska, name))
    assert any(">>>" in line for line in sections["Examples"])
    assert not any("+SKIP" in line for line in sections["Examples"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_says_what_it_raises(name):
    assert _has_twin(name) or _sections(getattr(ska, name))["Raises"]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_of_every_public_name_run_as_they_stand(name, tmp_path, monkeypatch):
    # Nothing but the public names is given: an example must work where it is copied to.
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFETYKIT_API_KEY", raising=False)
    value = getattr(ska, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    public = {"ska": ska} | {known: getattr(ska, known) for known in PUBLIC}
    for test in doctest.DocTestFinder(exclude_empty=True).find(value, name, globs={}):
        assert not run_examples(test.docstring, dict(public), test.name, test.lineno or 0)


MODULES = [
    "safetykit_analytics",
    *sorted(
        module.name
        for module in pkgutil.walk_packages(ska.__path__, "safetykit_analytics.")
        if not module.name.endswith("__main__")
    ),
]


def test_the_examples_of_every_module_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFETYKIT_API_KEY", raising=False)
    public = {id(getattr(ska, known)) for known in PUBLIC}
    n_run = 0
    for name in MODULES:
        module = importlib.import_module(name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module):
            top = test.name.removeprefix(name).lstrip(".").split(".")[0]
            if id(getattr(module, top, None)) in public or not test.examples:
                continue  # the test above runs it, under a stricter rule
            assert not run_examples(test.docstring, dict(vars(module)), test.name, test.lineno or 0)
            n_run += 1
    assert n_run


def test_every_module_says_its_place_in_one_line_first():
    for name in MODULES:
        first, *rest = (importlib.import_module(name).__doc__ or "").splitlines()
        assert first.endswith((".", ":")), name
        assert not rest or not rest[0], name


def test_the_reference_names_every_public_name_and_no_other():
    reference = (ROOT / "docs" / "api.md").read_text("utf-8")
    names: dict[str, set[str]] = {}
    for part in re.split(r"^\.\. currentmodule:: ", reference, flags=re.MULTILINE)[1:]:
        found = re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)(?:\(\))?$", part, re.MULTILINE)
        names.setdefault(part.split("\n", maxsplit=1)[0], set()).update(found)
    assert names.pop("safetykit_analytics") == set(PUBLIC)
    assert names.pop("safetykit_analytics.simulator") <= set(simulator.__all__)
    assert not names


def test_the_table_of_the_reference_is_the_schema():
    reference = (ROOT / "docs" / "api.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", reference, re.MULTILINE)
    fields = [(field.name, str(field.type), field.nullable) for field in ska.OBSERVATION_SCHEMA]
    assert [(name, kind.strip(), null.strip() != "never") for name, kind, null in rows] == fields
