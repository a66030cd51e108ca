"""Code in the documents runs as pasted: the blocks of a page, in order, in one program."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WORDS = "rows of like length share a batch so that little of it is padding".split()
pytestmark = pytest.mark.skipif(
    not (ROOT / ".github").is_dir(), reason="a source distribution has not all of the documents"
)


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
    """The names that the documents take for granted: a reader's own data, model and optimizer."""
    import datasets
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForCausalLM,
    )

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    data = [(" ".join(WORDS[: 1 + i % len(WORDS)]), i % 2) for i in range(48)]
    rows = [tokenizer(text)["input_ids"] for text, _ in data]
    labels = [label for _, label in data]
    tokenised = datasets.Dataset.from_dict({"input_ids": rows, "label": labels})
    tokenised.save_to_disk(str(folder / "tokenised"))
    model = BertForSequenceClassification(small(BertConfig))
    causal_model = LlamaForCausalLM(small(LlamaConfig))
    optimizer = torch.optim.AdamW([*model.parameters(), *causal_model.parameters()], lr=1e-3)
    return {
        "tokenizer": tokenizer,
        "data": data,
        "rows": rows,
        "model": model,
        "causal_model": causal_model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer),
    }


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    for peer in ("torch", "transformers", "datasets"):
        pytest.importorskip(peer)
    monkeypatch.chdir(tmp_path)
    names = what_a_reader_has(tmp_path)
    text = page.read_text(encoding="utf-8")
    for code in blocks(page):
        line = text[: text.index(code)].count("\n")
        exec(compile("\n" * line + code, str(page), "exec"), names)


def test_the_readme_trains():
    """What its code leaves behind is a model that has learned from all of its rows."""
    pytest.importorskip("transformers")
    assert any("loss" in code for code in blocks(ROOT / "README.md"))
