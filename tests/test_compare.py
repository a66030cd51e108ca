"""``python -m tightbatch compare``: the real command on small real input."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comparing import compare, needs_torch
from tightbatch.cli import main

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
    done = compare(
        *("--quick", "--rows", 240, "--batch-size", 16, "--device", "cpu"),
        *("--json", "figures.json", "--plot", "figures.png"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return {"done": done, "figures": figures, "plot": folder / "figures.png"}


def by_key(figures: dict[str, Any]) -> dict[str, Any]:
    return {strategy["key"]: strategy for strategy in figures["strategies"]}


@needs_torch
def test_every_strategy_is_there_in_order(library: dict[str, Any]) -> None:
    assert [strategy["key"] for strategy in library["figures"]["strategies"]] == ALL
    for strategy in library["figures"]["strategies"]:
        assert f" {strategy['name']} " in library["done"].stdout


@needs_torch
def test_tokens_add_up(library: dict[str, Any]) -> None:
    figures, run = library["figures"], by_key(library["figures"])
    data = figures["data"]
    assert data["rows_training"] + data["rows_held_out"] == 240
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
    assert padded["uniform"] <= padded["transformers"] <= padded["fixed"]
    for strategy in run.values():
        assert strategy["waste"] == pytest.approx(1 - real / strategy["padded_tokens"])
        if strategy["layout"] == "rows":
            assert strategy["steps"] == math.ceil(data["rows_training"] / 16)


@needs_torch
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
    assert run["fixed"]["shapes"] == 1 + bool(rows % 16)
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
    assert real**2 / rows < pairs["padding_free"] < pairs["uniform"] < pairs["packed"]
    assert figures["not_run"] == {}
    assert f"8 widths with the least padding: {boundaries[0]}, " in library["done"].stdout


@needs_torch
def test_seconds_and_speeds_follow_from_each_other(library: dict[str, Any]) -> None:
    run = by_key(library["figures"])
    for strategy in run.values():
        seconds = strategy["seconds_per_epoch"]
        assert seconds == min(strategy["epoch_seconds"])
        assert len(strategy["epoch_seconds"]) == library["figures"]["settings"]["epochs"] == 2
        assert 0 < strategy["data_seconds_per_epoch"] < seconds
        assert strategy["tokens_per_second"] == pytest.approx(strategy["real_tokens"] / seconds)
        assert strategy["speed_up"] == pytest.approx(run["fixed"]["seconds_per_epoch"] / seconds)
    assert run["fixed"]["speed_up"] == 1


@needs_torch
def test_the_same_batches_train_the_same_however_they_are_padded(library: dict[str, Any]) -> None:
    run = by_key(library["figures"])
    for one, other in (("fixed", "dynamic"), ("uniform", "uniform_transformers")):
        assert run[one]["epoch_losses"] == pytest.approx(run[other]["epoch_losses"], rel=0.02)
    for strategy in run.values():
        assert all(map(math.isfinite, strategy["epoch_losses"]))
        assert strategy["final_loss"] == strategy["epoch_losses"][-1] < strategy["epoch_losses"][0]
        assert math.isfinite(strategy["held_out_loss"])
        assert 0 <= strategy["held_out_accuracy"] <= 1


@needs_torch
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
    assert "Padding does not affect the model" in library["done"].stdout


@needs_torch
def test_what_was_left_out_is_said(library: dict[str, Any]) -> None:
    data, out = library["figures"]["data"], library["done"].stdout
    assert data["rows_repeated"] > 0
    assert f"{data['rows_repeated']:,} repeated" in out
    assert data["tokens_lost"] > 0
    assert f"{data['rows_cut']:,} rows were longer and lost {data['tokens_lost']:,} of" in out
    assert f"padded to {library['figures']['model']['fixed_width']} tokens" in out
    assert f"{data['majority_accuracy']:.1%}" in out


@needs_torch
def test_output_in_a_pipe_is_plain_and_fits(library: dict[str, Any]) -> None:
    done = library["done"]
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert "…" not in done.stdout


@needs_torch
def test_settings_and_environment_are_recorded(library: dict[str, Any]) -> None:
    import torch

    figures = library["figures"]
    assert figures["settings"]["batch_size"] == 16
    assert figures["settings"]["seed"] == 0
    environment = figures["environment"]
    assert environment["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert environment["torch_threads"] >= 1
    assert figures["mixed_precision"]["half"] == "bfloat16"
    assert f"Mixed precision: bfloat16, as {figures['mixed_precision']['reason']}" in (
        library["done"].stdout
    )


@needs_torch
def test_plot_is_a_png_of_some_size(library: dict[str, Any]) -> None:
    content = library["plot"].read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(content[16:20], "big") >= 1000  # pixels wide
    assert content.endswith(b"IEND\xaeB`\x82")


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

    def run(*options: object) -> tuple[int, dict[str, Any], str]:
        path = tmp_path / "figures.json"
        fixed = ["compare", "--model", word_model, "--epochs", 1, "--device", "cpu", "--json", path]
        code = main([str(option) for option in [*fixed, *options]])
        captured = capsys.readouterr()
        figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return code, figures, captured.out + captured.err

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


@needs_torch
@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv", ".parquet"])
def test_every_kind_of_file_gives_the_same_tokens(ending: str, tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(90)
    path = tmp_path / f"mine{ending}"
    write(path, texts, labels, ("review", "kind"))
    columns = () if ending == ".txt" else ("--text-column", "review", "--label-column", "kind")
    code, figures, out = run("--data", path, *columns)
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


@needs_torch
def test_empty_texts_are_left_out_and_counted(tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(60)
    texts[3], texts[10], texts[20] = "", "  ", "\t"
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    code, figures, out = run("--data", tmp_path / "a.jsonl", "--max-length", 5, "--rows", 50)
    assert code == 0, out
    assert figures["data"]["rows_empty"] == 3
    assert "50 of 60 rows (3 empty, 7 not drawn)" in out
    assert figures["data"]["label"] == 'column "label"'  # taken without being asked for
    assert figures["model"]["limit"] == figures["model"]["fixed_width"] == 5
    assert "padded to 5 tokens: the model's limit" in out


@needs_torch
def test_fixed_padding_is_no_wider_than_the_longest_training_row(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "short.txt"
    path.write_text("the cat\nthe dog sees a cat\n" * 20, encoding="utf-8")
    code, figures, out = run("--data", path, "--shuffle-window", "auto")
    assert code == 0, out
    assert figures["model"]["fixed_width"] == figures["data"]["longest_training_row"] == 5
    assert "padded to 5 tokens: the longest training row" in out
    assert figures["settings"]["shuffle_window"] == "auto"


@needs_torch
def test_a_mask_that_hides_nothing_is_found(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbatch.compare import strategies

    right = strategies.collator

    def wrong(strategy: strategies.Strategy, loading: strategies.Loading) -> Any:
        collate = right(strategy, loading)

        def unmasked(rows: list[Any]) -> Any:
            batch = collate(rows)
            if strategy.key == "dynamic":
                batch["attention_mask"].fill_(1)
            return batch

        return unmasked

    monkeypatch.setattr(strategies, "collator", wrong)
    texts, labels = sentences(90)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    code, figures, out = run("--data", tmp_path / "a.jsonl")
    assert code == 1
    assert "Padding does AFFECT the model" in out
    assert "FAILED: dynamic (float32)" in out
    check = figures["padding_check"]
    assert [a["strategy"] for a in check["agreements"] if not a["holds"]] == ["dynamic"]


@needs_torch
def test_widths_are_as_asked_for(tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(90)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    options = ("--buckets", 2, "--capacity", 40, "--pad-to-multiple-of", 8, "--batch-size", 8)
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


@needs_torch
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
    code, figures, out = run("--data", tmp_path / "a.jsonl", "--model", model)
    assert code == 0, out
    assert set(figures["not_run"]) == {"packed", "padding_free"}
    assert set(by_key(figures)) == set(ALL) - {"packed", "padding_free"}
    assert figures["padding_check"]["control_rows_together"] is None
    for name in ("packed", "padding-free"):
        assert f"NOT RUN: {name}: the model does not take its batches: " in out
        row = next(line for line in out.splitlines() if line.startswith(f" {name} "))
        assert set(row.split()[1:]) == {"-"}  # there, without figures


@needs_torch
def test_a_diverging_loss_is_one_line(tmp_path: Path, run: Run) -> None:
    texts, labels = sentences(60)
    write(tmp_path / "a.jsonl", texts, labels, ("text", "label"))
    code, _, out = run("--data", tmp_path / "a.jsonl", "--learning-rate", 1e30)
    assert code == 2
    assert "fixed padding: the loss is not finite; try a smaller --learning-rate" in out


@needs_torch
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "no/such-model"], "no/such-model: no such directory, nor in the cache"),
        (["--device", "abacus"], "--device abacus: "),
        (["--max-length", "30"], "--max-length 30: the model's limit is 24 tokens"),
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
    assert said in out
    assert out.count("\n") == 1
