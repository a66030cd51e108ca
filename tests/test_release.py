"""What has to be said in several places of a release is said alike: versions, Pythons, NumPy."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = ROOT / ".github" / "workflows"
MINORS = sorted(
    int(found[1])
    for line in PROJECT["project"]["classifiers"]
    if (found := re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", line))
)
in_repository = pytest.mark.skipif(
    not WORKFLOWS.is_dir(), reason="a source distribution has no workflows and no recipe"
)


def load(path):
    return pytest.importorskip("yaml").safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_version_is_one():
    version = PROJECT["project"]["version"]
    assert importlib.metadata.version("tightbatch") == version
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+) ", changelog, re.M)[1] == version


def test_pythons_are_those_that_are_built():
    assert list(range(MINORS[0], MINORS[-1] + 1)) == MINORS
    assert PROJECT["project"]["requires-python"] == f">=3.{MINORS[0]}"
    built = PROJECT["tool"]["cibuildwheel"]["build"]
    ones = "".join(str(minor - 10) for minor in MINORS)
    assert built == f"cp31{{{','.join(ones)}}}-*"
    limits = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    assert f"CPython 3.{MINORS[0]} to 3.{MINORS[-1]}, 64-bit" in limits


@in_repository
def test_ci_runs_on_the_same_pythons():
    matrix = load(".github/workflows/ci.yml")["jobs"]["numpy"]["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{minor}" for minor in MINORS]


@in_repository
def test_the_recipe_builds_what_the_project_needs():
    recipe = load("packaging/conda/recipe.yaml")
    assert recipe["context"]["version"] == PROJECT["project"]["version"]
    wanted = [name.replace(">=", " >=") for name in PROJECT["project"]["dependencies"]]
    assert recipe["requirements"]["run"] == ["python", *wanted]
    host = recipe["requirements"]["host"]
    assert set(wanted) <= set(host)
    for name in PROJECT["build-system"]["requires"]:
        assert name.replace(">=", " >=") in host
    suite = [name.replace(">=", " >=") for name in PROJECT["dependency-groups"]["suite"]]
    assert recipe["tests"][1]["requirements"]["run"] == suite
    scripts = PROJECT["project"]["scripts"]
    entries = recipe["build"]["python"]["entry_points"]
    assert entries == [f"{name} = {place}" for name, place in scripts.items()]


@in_repository
def test_only_the_upload_may_say_who_it_is():
    """One job has the right to publish, behind an environment; all others read."""
    workflow = load(".github/workflows/wheels.yml")
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"]
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    publish = jobs["publish"]
    assert publish["permissions"]["id-token"] == "write"
    assert publish["environment"]["name"] == "pypi"
    assert publish["if"] == "github.event_name == 'release'"
    assert set(publish["needs"]) == set(jobs) - {"publish"}
    assert not any("secrets." in path.read_text() for path in WORKFLOWS.glob("*.yml"))


@in_repository
def test_every_system_is_built_once():
    include = load(".github/workflows/wheels.yml")["jobs"]["wheels"]["strategy"]["matrix"][
        "include"
    ]
    systems = {(entry["name"].rpartition("-")[0], entry["archs"].lower()) for entry in include}
    assert systems == {
        ("manylinux", "x86_64"),
        ("manylinux", "aarch64"),
        ("musllinux", "x86_64"),
        ("musllinux", "aarch64"),
        ("macos", "x86_64"),
        ("macos", "arm64"),
        ("windows", "amd64"),
        ("windows", "arm64"),
    }
    assert len(include) == len(systems)


@in_repository
def test_the_size_budget_is_one():
    script = (ROOT / ".ci" / "wheels").read_text(encoding="utf-8")
    budget = re.search(r"^budget=(\d+)", script, re.M)[1]
    assert f"-size +{budget}c" in (WORKFLOWS / "wheels.yml").read_text(encoding="utf-8")
    assert f"at most {int(budget) / 1e6:.1f} MB" in (ROOT / "docs" / "releasing.md").read_text()
