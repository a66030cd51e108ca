"""The tokenizer, the model and the token rows: what every way of padding starts from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tightbatch.compare import CompareError, Settings
from tightbatch.compare.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 4096
LIMIT = 256  # tokens, of the built-in model
LAYERS, HEAD_WIDTH = 2, 32
# Positions of these start after the padding id: 514 of them carry 512 tokens.
OFFSET_POSITIONS = ("roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "data2vec-text")

Row = dict[str, Any]  # {"input_ids": list of int, "label": int}


@dataclass(frozen=True)
class Start:
    """The tokenizer and the untrained model."""

    name: str
    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    limit: int  # longest row in tokens, special tokens included
    learning_rate: float


@dataclass(frozen=True)
class Rows:
    """Token rows for training and testing, and what cutting them lost."""

    training: list[Row]
    held_out: list[Row]
    rows_cut: int
    tokens_lost: int
    tokens_before: int  # in all rows, before cutting

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each training row."""
        return [len(row["input_ids"]) for row in self.training]


def offline() -> None:
    """Keep transformers off the network and quiet; call before it is imported."""
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


def build(texts: list[str], labels: int, settings: Settings) -> Start:
    """A vocabulary from `texts`, and a small ModernBERT with random weights."""
    import torch
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    tokenizer = train_tokenizer(texts)
    torch.manual_seed(settings.seed)
    width = 64 if settings.quick else 128
    # Any: keywords of the common base class are not in the annotations of every version.
    config: Any = ModernBertConfig
    # Without dropout, ModernBERT's default, the same batches give the same losses however they
    # are padded.
    model = ModernBertForSequenceClassification(
        config(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=LAYERS,
            num_attention_heads=width // HEAD_WIDTH,
            intermediate_size=2 * width,  # twice that: the layer is gated
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
    rate = 3e-3 if settings.quick else 1e-3
    return Start("built-in small ModernBERT", tokenizer, model, LIMIT, rate)


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
    # A tokenizer without a limit says 10**30, which no batch could be padded to.
    return min(limit, 512) if limit > 1_000_000 else limit


def load(name: str, labels: int, settings: Settings) -> Start:
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
    except Exception as error:  # transformers raises many kinds, none of them its own
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
    return Start(name, tokenizer, model.float(), limit_of(tokenizer, model), 5e-5)


def start(settings: Settings, text: Text) -> Start:
    """The tokenizer, model, limit and learning rate that the settings ask for."""
    labels = len(text.label_names)
    if settings.model is None:
        made = build([row for row, _ in text.training], labels, settings)
    else:
        made = load(settings.model, labels, settings)
    limit = settings.max_length or made.limit
    least = made.tokenizer.num_special_tokens_to_add() + 1
    if limit > made.limit:
        raise CompareError(f"--max-length {limit}: the model's limit is {made.limit} tokens")
    if limit < least:
        raise CompareError(f"--max-length {limit}: at least {least} is needed")
    rate = settings.learning_rate or made.learning_rate
    return Start(made.name, made.tokenizer, made.model, limit, rate)


def tokenize(text: Text, tokenizer: PreTrainedTokenizerFast, limit: int) -> Rows:
    """Tokenize every text; rows longer than `limit` tokens are cut by the tokenizer.

    The tokenizer cuts, not the collator, so that a closing special token stays in its place.
    """
    texts = [row for row, _ in text.held_out + text.training]
    whole = tokenizer(texts, verbose=False, return_attention_mask=False)["input_ids"]
    cut = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)
    rows = [
        {"input_ids": ids, "label": label}
        for ids, (_, label) in zip(cut["input_ids"], text.held_out + text.training, strict=True)
    ]
    lost = [len(ids) - len(row["input_ids"]) for ids, row in zip(whole, rows, strict=True)]
    return Rows(
        training=rows[len(text.held_out) :],
        held_out=rows[: len(text.held_out)],
        rows_cut=sum(n > 0 for n in lost),
        tokens_lost=sum(lost),
        tokens_before=sum(map(len, whole)),
    )
