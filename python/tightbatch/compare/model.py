"""The tokenizer, the model and the rows of tokens: the start of every way of padding."""

from __future__ import annotations

import os
import platform
from argparse import Namespace
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from tightbatch.compare import CompareError
from tightbatch.compare.text import Texts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tightbatch.amp import Precision

VOCABULARY = 4096
LIMIT = 256  # tokens, of the built-in model
LAYERS, WIDTH, HEAD_WIDTH = 2, 64, 32
# In these models positions start after the padding id: 514 positions hold 512 tokens.
OFFSET_POSITIONS = ("roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "data2vec-text")

Row = dict[str, Any]  # {"input_ids": list of int, "label": int}


@dataclass(frozen=True)
class Setup:
    """What all ways of padding share. Widths are in tokens."""

    settings: Namespace
    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    device: str
    initial: dict[str, torch.Tensor]  # the weights that training starts from
    learning_rate: float
    limit: int  # the longest that a row may be, special tokens included
    training: list[Row]
    held_out: list[Row]
    longest: int  # of the training rows
    width: int  # of fixed padding
    pack_width: int
    batch_tokens: int  # in a batch without padding: `batch_size` rows of average length
    packs: int  # in a batch, so that it has about `batch_size` rows
    boundaries: list[int]  # of the buckets


def set_up(settings: Namespace, tokenizer: Any, model: Any, device: str, **rest: Any) -> Setup:
    """Choose the widths; raise CompareError for those that do not fit the rows.

    `rest` is the learning rate, the limit, and the training and held-out rows.
    """
    import tightbatch as tb

    model.to(device)
    lengths, limit = [len(row["input_ids"]) for row in rest["training"]], rest["limit"]
    multiple = settings.pad_to_multiple_of or 1
    if limit % multiple:
        raise CompareError(
            f"--pad-to-multiple-of {multiple}: the limit of {limit} tokens is no multiple of it; "
            f"add --max-length {limit // multiple * multiple or multiple}"
        )
    width, tokens = -(-max(lengths) // multiple) * multiple, sum(lengths)
    capacity = settings.capacity or width
    if capacity < width:
        raise CompareError(f"--capacity {capacity}: less than the {width} tokens of the widest row")
    if capacity > max(tokens, width):
        raise CompareError(f"--capacity {capacity}: more than the {tokens} tokens of all rows")
    batch_tokens = max(-(-settings.batch_size * tokens // len(lengths)), width)
    pack_width = -(-capacity // multiple) * multiple
    found = tb.bucket_boundaries(lengths, settings.buckets, pad_to_multiple_of=multiple)
    return Setup(
        settings=settings,
        tokenizer=tokenizer,
        model=model,
        device=device,
        initial={name: weight.clone() for name, weight in model.state_dict().items()},
        longest=max(lengths),
        width=width,
        pack_width=pack_width,
        batch_tokens=batch_tokens,
        packs=max(1, round(batch_tokens / pack_width)),
        boundaries=list(map(int, found)),
        **rest,
    )


def with_seed(setup: Setup, seed: int) -> Setup:
    """Other weights, another order, and other rows held out.

    Only weights that were random from the start are drawn anew: those of the built-in model.
    """
    import random

    import torch

    import tightbatch as tb

    rows, tested = setup.held_out + setup.training, len(setup.held_out)
    random.Random(seed).shuffle(rows)
    initial, settings = setup.initial, Namespace(**{**vars(setup.settings), "seed": seed})
    if settings.model is None:
        torch.manual_seed(seed)
        built = type(setup.model)._from_config(setup.model.config)
        initial = {name: w.clone().to(setup.device) for name, w in built.state_dict().items()}
    training, multiple = rows[tested:], settings.pad_to_multiple_of or 1
    lengths = [len(row["input_ids"]) for row in training]
    width = -(-max(lengths) // multiple) * multiple
    found = tb.bucket_boundaries(lengths, settings.buckets, pad_to_multiple_of=multiple)
    return replace(
        setup,
        settings=settings,
        initial=initial,
        training=training,
        held_out=rows[:tested],
        longest=max(lengths),
        width=width,
        pack_width=max(width, setup.pack_width),
        batch_tokens=max(width, setup.batch_tokens),
        boundaries=list(map(int, found)),
    )


def pick_device(wanted: str) -> str:
    """The torch device type to train on; raise CompareError if the device does not exist."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device).sum().item()
    except Exception as error:  # torch raises several kinds, AssertionError among them
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else "not there"
        raise CompareError(f"--device {wanted}: {reason}") from None
    return device.type


def mixed_precision(device: str) -> Precision:
    """The type for the rows with mixed precision: never float32, which would show nothing."""
    from tightbatch.amp import choose_precision

    chosen = choose_precision(device)
    return choose_precision(device, "bfloat16") if chosen.dtype == "float32" else chosen


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment(device: str) -> dict[str, Any]:
    """The machine and the packages that the figures were measured with."""
    import torch

    packages = ("tightbatch", "torch", "transformers", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        **{package: version(package) for package in packages},
    }


def offline() -> None:
    """Keep transformers quiet and off the network; call it before transformers is imported."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ[name] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "true"

    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`: no text has an unknown token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=["[PAD]", "[CLS]", "[SEP]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=LIMIT,
        model_input_names=["input_ids", "attention_mask"],
    )


def build(texts: list[str], labels: int, settings: Namespace) -> tuple[Any, Any]:
    """A vocabulary from `texts`, and a small ModernBERT with random weights."""
    import torch
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    tokenizer = train_tokenizer(texts)
    torch.manual_seed(settings.seed)
    # Any: not every version annotates the keywords of the common base class.
    config: Any = ModernBertConfig
    # Without dropout, ModernBERT's default, the same batches give the same losses however they
    # are padded.
    model = ModernBertForSequenceClassification(
        config(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=WIDTH // HEAD_WIDTH,
            intermediate_size=2 * WIDTH,  # twice that: the layer is gated
            max_position_embeddings=LIMIT,
            global_attn_every_n_layers=1,
            # The mean over tokens learns in an epoch what the first token learns in ten.
            classifier_pooling="mean",
            initializer_range=0.05,  # 0.02 is for a width of 768
            num_labels=labels,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            cls_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            sep_token_id=tokenizer.sep_token_id,
        )
    )
    return tokenizer, model


def first_position(model: PreTrainedModel) -> int:
    """The position of a row's first token, as the model counts."""
    offset = model.config.model_type in OFFSET_POSITIONS
    return (model.config.pad_token_id or 0) + 1 if offset else 0


def limit_of(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> int:
    """The most tokens that a row may have, by the tokenizer and the model's positions."""
    limit = int(tokenizer.model_max_length)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions > 0:
        limit = min(limit, int(positions) - first_position(model))
    # A tokenizer without a limit has 10**30 here, and no batch could be padded to that.
    return min(limit, 512) if limit > 1_000_000 else limit


def load(name: str, labels: int, settings: Namespace) -> tuple[Any, Any]:
    """A transformers model from a directory or the local cache."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(settings.seed)  # the new classification head is random
    tokenizer: Any
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, num_labels=labels, local_files_only=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # transformers raises many kinds of errors
        where = "not loadable" if os.path.isdir(name) else "no such directory, nor in the cache"
        reason = " ".join(str(error).split())[:160]
        raise CompareError(f"--model {name}: {where}: {reason}") from None
    if not tokenizer.is_fast:
        raise CompareError(f"--model {name}: its tokenizer is not a fast one (no tokenizer.json)")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise CompareError(f"--model {name}: its tokenizer has no padding token")
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.problem_type = "single_label_classification"
    # Weights saved in a half type are made float32, as the table says they are.
    return tokenizer, model.float()


def start(settings: Namespace, texts: Texts, device: str) -> tuple[Setup, dict[str, int]]:
    """Build or load the model and tokenize the texts.

    Rows over the limit are cut by the tokenizer, not by the collator, so that a special token at
    the end stays.

    Returns
    -------
    setup : Setup
        What all ways of padding share.
    cut : dict
        For JSON: the tokens before cutting, and what cutting lost.
    """
    labels = len(texts.figures["labels"])
    if settings.model is None:
        tokenizer, model = build([text for text, _ in texts.training], labels, settings)
        rate = 3e-3
    else:
        (tokenizer, model), rate = load(settings.model, labels, settings), 5e-5
    most, least = limit_of(tokenizer, model), tokenizer.num_special_tokens_to_add() + 1
    limit = settings.max_length or most
    if limit > most:
        raise CompareError(f"--max-length {limit}: the model's limit is {most} tokens")
    if limit < least:
        raise CompareError(f"--max-length {limit}: at least {least} is needed")
    pairs = texts.held_out + texts.training
    inputs = [text for text, _ in pairs]
    whole = tokenizer(inputs, verbose=False, return_attention_mask=False)["input_ids"]
    cut = tokenizer(inputs, truncation=True, max_length=limit, return_attention_mask=False)
    rows = [
        {"input_ids": ids, "label": label}
        for ids, (_, label) in zip(cut["input_ids"], pairs, strict=True)
    ]
    lost = [len(ids) - len(row["input_ids"]) for ids, row in zip(whole, rows, strict=True)]
    setup = set_up(
        settings,
        tokenizer,
        model,
        device,
        learning_rate=settings.learning_rate or rate,
        limit=limit,
        held_out=rows[: len(texts.held_out)],
        training=rows[len(texts.held_out) :],
    )
    before = sum(map(len, whole))
    figures = {"rows_cut": sum(n > 0 for n in lost), "tokens_lost": sum(lost)}
    return setup, figures | {"tokens_before": before}
