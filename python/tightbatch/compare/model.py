"""Tokenizer and model: a small ModernBERT built here, or the user's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tightbatch.compare.settings import CompareError, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 4096
LIMIT = 256  # tokens, of the built-in model
LAYERS, HEAD_WIDTH = 2, 32
# Positions of these start after the padding id: 514 of them carry 512 tokens.
OFFSET_POSITIONS = ("roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "data2vec-text")


@dataclass(frozen=True)
class Start:
    """What every strategy starts from."""

    name: str
    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    limit: int  # longest row in tokens, special tokens included
    learning_rate: float


def offline() -> None:
    """Keep transformers off the network and quiet; call before it is imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
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


def build(
    texts: list[str], labels: int, width: int, seed: int, learning_rate: float | None
) -> Start:
    """The built-in start: a vocabulary from `texts`, a small ModernBERT with random weights."""
    import torch
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    tokenizer = train_tokenizer(texts)
    torch.manual_seed(seed)
    # Any: keywords of the common base class are not in the annotations of every version.
    config: Any = ModernBertConfig
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
            # Dropout is off, as is ModernBERT's way: the same batches give the same losses
            # however they are padded, so the loss column shows what padding changes: nothing.
        )
    )
    rate = learning_rate or (1e-3 if width > 64 else 3e-3)
    return Start("built-in small ModernBERT", tokenizer, model, LIMIT, rate)


def first_position(model: PreTrainedModel) -> int:
    """The position of a row's first token, as the model counts."""
    offset = model.config.model_type in OFFSET_POSITIONS
    return (model.config.pad_token_id or 0) + 1 if offset else 0


def limit_of(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> int:
    """The most tokens a row may have: what the tokenizer says and the positions allow."""
    limit = int(tokenizer.model_max_length)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions > 0:
        limit = min(limit, int(positions) - first_position(model))
    # A tokenizer that knows no limit says 10**30; some rectangle has to be chosen.
    return min(limit, 512) if limit > 1_000_000 else limit


def load(name: str, labels: int, seed: int, learning_rate: float | None) -> Start:
    """The user's start: a transformers model from a directory or the local cache."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)  # the new classification head is random
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
    # Weights saved in a half type would make the float32 rows of the table something else.
    model = model.float()
    return Start(name, tokenizer, model, limit_of(tokenizer, model), learning_rate or 5e-5)


def start(settings: Settings, texts: list[str], labels: int) -> Start:
    """The tokenizer, model, limit and learning rate that every strategy starts from."""
    if settings.model is None:
        made = build(
            texts, labels, 64 if settings.quick else 128, settings.seed, settings.learning_rate
        )
    else:
        made = load(settings.model, labels, settings.seed, settings.learning_rate)
    if settings.max_length is not None and settings.max_length < made.limit:
        least = made.tokenizer.num_special_tokens_to_add() + 1
        if settings.max_length < least:
            raise CompareError(f"--max-length {settings.max_length}: at least {least} is needed")
        return Start(made.name, made.tokenizer, made.model, settings.max_length, made.learning_rate)
    if settings.max_length is not None and settings.max_length > made.limit:
        raise CompareError(
            f"--max-length {settings.max_length}: the model's limit is {made.limit} tokens"
        )
    return made
