"""Code in the documents runs as pasted: the blocks of a page, in order, in one program."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ON_A_CLUSTER = ["ray"]
STARTS_RAY = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]  # of what Ray does itself
WORDS = "rows of like length share a batch so that little of it is padding".split()
pytestmark = [
    pytest.mark.skipif(
        not (ROOT / ".github").is_dir(), reason="a source distribution has not all of the documents"
    ),
    # Of a Trainer on a machine without a GPU.
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata's call of torch
]


def blocks(page):
    """The Python of a page that is no session with a prompt."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [code for code in found if ">>>" not in code]


def make_tokenizer():
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[EOS]", *WORDS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
    )


def small(config, **sizes):
    return config(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=0,
        **sizes,
    )


def what_a_reader_has(folder):
    """The names that the documents take for granted: a reader's own data, model and loop."""
    import datasets
    import torch
    import transformers
    from torch.utils.data import DataLoader

    import tightbatch as tb

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    data = [(" ".join(WORDS[: 1 + i % len(WORDS)]), i % 2) for i in range(48)]
    samples = [{"input_ids": tokenizer(text)["input_ids"], "label": label} for text, label in data]
    datasets.Dataset.from_list(samples).save_to_disk(str(folder / "tokenised"))
    model = transformers.BertForSequenceClassification(small(transformers.BertConfig))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    lengths = [len(sample["input_ids"]) for sample in samples]
    sampler = tb.LengthBatchSampler(lengths, batch_size=8)
    collate_fn = tb.PadCollator.from_tokenizer(tokenizer)
    return {
        "tokenizer": tokenizer,
        "data": data,
        "samples": samples,
        "lengths": lengths,
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer),
        "sampler": sampler,
        "collate_fn": collate_fn,
        "loader": DataLoader(samples, batch_sampler=sampler, collate_fn=collate_fn),
        "args": transformers.TrainingArguments("out", max_steps=2, report_to="none"),
        "start": 0,
        "epochs": 2,
        "train": lambda batch: model(**batch).loss.backward(),
    }


@pytest.fixture
def _no_cluster_stays():
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=p.name, marks=STARTS_RAY if p.stem in ON_A_CLUSTER else ())
        for p in PAGES
        if blocks(p)
    ],
)
@pytest.mark.usefixtures("_no_cluster_stays")
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    for peer in (
        "torch",
        "transformers",
        "datasets",
        *(["ray.data"] * (page.stem in ON_A_CLUSTER)),
    ):
        pytest.importorskip(peer)
    monkeypatch.chdir(tmp_path)
    names = what_a_reader_has(tmp_path)
    names["__name__"] = "__main__"
    if page.name == "packing.md":  # of a model for tokens
        import transformers

        names["model"] = transformers.BertForMaskedLM(small(transformers.BertConfig))
    text = page.read_text(encoding="utf-8")
    for code in blocks(page):
        line = text[: text.index(code)].count("\n")
        exec(compile("\n" * line + code, str(page), "exec"), names)


def test_the_readme_trains(tmp_path, monkeypatch):
    """Given no more than a tokenizer, texts, a model and an optimizer, it learns from every row."""
    for peer in ("torch", "transformers", "datasets"):
        pytest.importorskip(peer)
    monkeypatch.chdir(tmp_path)
    given = what_a_reader_has(tmp_path)
    names = {key: given[key] for key in ("tokenizer", "data", "model", "optimizer")}
    model = names["model"]
    losses = []
    model.register_forward_hook(lambda _module, _given, out: losses.append(out.loss))
    for code in blocks(ROOT / "README.md"):
        seen = len(losses)
        before = [p.detach().clone() for p in model.parameters()]
        exec(code, names)
        if "loss" in code or "train()" in code:
            assert any(loss is not None for loss in losses[seen:]), code
            assert any(not p.equal(b) for p, b in zip(model.parameters(), before, strict=True))
    assert all(sample["label"] in (0, 1) for sample in names["samples"])
