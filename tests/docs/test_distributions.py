"""What is built holds what it should, and nothing else."""

import tarfile
import zipfile
from email import message_from_bytes

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import safetykit_analytics as ska
from tests.docs.helpers import PACKAGE, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(
        next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))
    ) as file:
        yield file


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(
        next(iter(SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))
    ) as file:
        yield file


def _sources() -> set[str]:
    return {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == _sources()
    assert {"safetykit_analytics/py.typed", "safetykit_analytics/__init__.pyi"} <= names


def test_the_wheel_says_its_version_licence_and_needs(wheel):
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(wheel.read(name))
    assert metadata["Version"] == ska.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"demo", "s3", "dask", "docs", "dev", "full"} <= set(metadata.get_all("Provides-Extra"))
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_the_sdist_is_enough_to_test_and_to_build_the_site(sdist):
    names = {name.partition("/")[2] for name in sdist.getnames()}
    assert _sources() <= names
    assert names >= {
        "tests/conftest.py", "tests/reference_cases.json", "docs/conf.py", "notebooks/01_quickstart.ipynb",
        "pyproject.toml", "Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE",
    }  # fmt: skip


@pytest.mark.parametrize("built", ["wheel", "sdist"])
def test_no_cache_no_data_and_no_secret_is_shipped(built, request):
    file = request.getfixturevalue(built)
    names = file.namelist() if built == "wheel" else file.getnames()
    unwanted = (".pyc", ".parquet", ".env", ".key", ".pem", ".coverage", ".html.tmp")
    assert [name for name in names if name.endswith(unwanted) or "__pycache__" in name] == []
