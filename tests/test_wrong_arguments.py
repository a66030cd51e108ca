"""Every parameter of every public function, class and method, given every wrong kind of value.

The parameters come from the signatures. What is wrong for a parameter follows from its annotation
or from the tables below, and a parameter that neither knows fails: nothing is left out in silence.
"""

import importlib.util
import inspect
import re
import types
import typing
import warnings

import numpy as np
import pytest

import tightbatch as tb
from wrong_kinds import (
    LONG,
    AnyFill,
    Anything,
    Array,
    ByKey,
    Choice,
    Dtype,
    Fill,
    Flag,
    Ids,
    Index,
    Instance,
    Integer,
    Key,
    Kind,
    Lengths,
    Or,
    Out,
    Places,
    Real,
    Rows,
    Samples,
)

HAS_TORCH = importlib.util.find_spec("torch") is not None
MODULES = ["tightbatch", "tightbatch.huggingface", "tightbatch.amp"]
NEED_TORCH = ("tightbatch.amp",)
NEED = {"RaggedDataset.from_hf": "datasets", "pack_dataset": "datasets"}
ARROW = ("Ragged.from_arrow", "RaggedDataset.from_arrow")
# What a message may say, and no more: a value is cut.
MOST_CHARACTERS = 1000

# Methods with two underscores that users call by an operator.
OPERATORS = ("__call__", "__getitem__", "__getitems__", "__contains__")

# Classes that a function makes. Their constructors read no settings.
RESULTS = {
    "Batch": "a dict, with dict's constructor",
    "ConversionCounts": "made by to_float16",
    "HalfReport": "made by half_report",
    "Packing": "made by pack",
    "Precision": "made by choose_precision",
}

# What parameters of these names are, wherever they are.
KINDS = {
    "accumulate": Integer(1),
    "balance": Integer(1),
    "batch_size": Integer(1),
    "batches_consumed": Integer(0),
    "capacity": Integer(1),
    "device": Instance(but=("'1'", "'nonsense'", "a long str")),
    "epoch": Integer(0),
    "fill_null": Fill(),
    "k": Integer(1),
    "label_pad_token_id": Integer(-(2**63)),
    "mask_token_id": Integer(0),
    "max_length": Integer(0),
    "max_norm": Real(0),
    "max_segments": Integer(1),
    "max_seqlen": Integer(1),
    "max_tokens": Integer(1),
    "num_replicas": Integer(1),
    "pad_to_multiple_of": Integer(1),
    "pad_token_id": Integer(-(2**63)),
    "position_ids_start": Integer(0),
    "quadratic_length": Integer(1),
    "rank": Integer(0, 1),
    "seed": Integer(0, 2**64 - 1),
    "segment_multiple_of": Integer(1),
    "separator_id": Integer(-(2**63)),
    "vocab_size": Integer(1),
    "width": Integer(0),
    "window": Integer(1),
    "growth_interval": Integer(1),
    "min_scale": Real(2.0**-126, 2.0**126),
    "max_scale": Real(2.0**-126, 2.0**126),
    "mlm_probability": Real(0, 1),
    "mask_replace_prob": Real(0, 1),
    "random_replace_prob": Real(0, 1),
    "padding_value": Fill(),
    "boundaries": Lengths(),
    "shuffle_window": Or(Integer(1), Choice()),
    "dtype": Dtype(),
    "lengths": Lengths(words=("row",)),
    "sequences": Rows(words=("row",)),
    "out": Out(),
    "column": Key(),
    "columns": Instance(
        but=("a list", "a long list", "a list of str", "an array", "a set", "a dict")
    ),
    "padding_side": Choice(),
    "truncation_side": Choice(),
    "return_tensors": Choice(),
    "naming": Choice(),
    "overflow": Choice(),
    "overlong": Choice(),
    "tail": Choice(),
    "padding": Or(Flag(), Choice()),
    "features": Samples(words=("feature",)),
    "samples": Samples(words=("sample",)),
    "index": Index(),
    "tokenizer": Instance(but=("None",)),
    "model": Anything(reason="any object; only its method for decoder inputs is looked at"),
    "special_token_ids": Lengths(),
}
STATE = Instance(error=(TypeError, ValueError))
PACKS = Lengths(words=("row",), rows=True)
TENSOR_LIKE = Array(words=("row",))
# What parameters are here alone: by the function's name and their own.
OWN = {
    "Amp": {
        "model": Instance(),
        "optimizer": Instance(),
        "scheduler": Instance(),
        "scaler": Instance(),
        "dtype": Or(Choice(), Dtype()),
    },
    "Amp.step": {"loss": Instance()},
    "Amp.load_state_dict": {"state_dict": STATE},
    "Batch.pin_memory": {"device": Anything(reason="torch reads it")},
    "Batch.to": {"device": Anything(reason="torch reads it")},
    "GradScaler": {
        "device": Anything(reason="torch's own parameter, and torch reads it"),
        "init_scale": Real(0),
        "growth_factor": Anything(reason="torch's own parameter, and torch reads it"),
        "backoff_factor": Anything(reason="torch's own parameter, and torch reads it"),
        "growth_interval": Anything(reason="torch's own parameter, and torch reads it"),
        "enabled": Anything(reason="torch's own parameter, and torch reads it"),
        "named_parameters": Instance(but=("a dict", "a set")),
    },
    "GradScaler.load_state_dict": {"state_dict": STATE},
    "GradScaler.step": {
        "optimizer": Anything(reason="torch's own method, and torch reads it"),
        "args": Anything(reason="for the optimizer's step()"),
        "kwargs": Anything(reason="for the optimizer's step()"),
    },
    "GradScaler.unscale_": {"optimizer": Anything(reason="torch's own method, and torch reads it")},
    "GradScaler.update": {"new_scale": Anything(reason="torch's own method, and torch reads it")},
    "HalfReport.__contains__": {"name": Anything(reason="`in` takes any object and says False")},
    "HalfReport.__getitem__": {
        "key": Instance(but=("0", "-1"), error=(KeyError, IndexError, TypeError))
    },
    "HalfReport.plot": {"ax": Anything(reason="an object of matplotlib, which reads it")},
    "LengthBatchSampler": {"max_length": Integer(1)},
    "LengthBatchSampler.load_state_dict": {"state": STATE},
    "PadCollator": {
        "padding_value": ByKey(kind=AnyFill()),
        "width": ByKey(kind=Integer(0)),
        "max_length": ByKey(kind=Integer(0)),
        "pad_to_multiple_of": ByKey(kind=Integer(1)),
        "boundaries": ByKey(kind=Lengths()),
        "dtype": ByKey(kind=Dtype()),
    },
    "PadCollator.from_tokenizer": {
        "tokenizer": Instance(),
        "options": Anything(reason="PadCollator's, tried there"),
    },
    "PaddingFreeCollator": {
        "padding_value": ByKey(kind=AnyFill()),
        "dtype": ByKey(kind=Dtype()),
    },
    "Packing.__getitem__": {"pack": Index()},
    "Packing.apply": {"ragged": Instance()},
    "Ragged": {"values": TENSOR_LIKE, "offsets": Places(), "lengths": Lengths(words=("row",))},
    "Ragged.concatenate": {"parts": Instance(error=(TypeError, ValueError))},
    "Ragged.from_arrow": {"source": Instance()},
    "Ragged.pad": {"options": Anything(reason="pad's, tried there")},
    "RaggedDataset": {"columns": Instance(but=("a dict",))},
    "RaggedDataset.from_arrow": {"table": Instance()},
    "RaggedDataset.from_hf": {"dataset": Instance()},
    "RaggedDataset.__getitem__": {"index": Anything(reason="a name, or what __getitems__ takes")},
    "RaggedDataset.__getitems__": {"indices": Index()},
    "block_mask": {
        "block_size": Or(first=Integer(1), second=Instance(error=ValueError)),
        "lengths": PACKS,
    },
    "choose_precision": {"dtype": Or(Choice(), Dtype())},
    "half_report": {"x": TENSOR_LIKE},
    "lengths": {"sequences": Rows(words=("row",), looks=False)},
    "pack_dataset": {"dataset": Instance()},
    "position_ids": {"lengths": PACKS},
    "segment_ids": {"lengths": PACKS},
    "segment_mask": {
        "segment_ids": Ids(words=("row",)),
        "prefix": Lengths(one=True),
    },
    "to_bfloat16": {"x": TENSOR_LIKE},
    "to_float16": {"x": TENSOR_LIKE},
    "to_float32": {"x": TENSOR_LIKE},
    "unpad": {"array": TENSOR_LIKE, "lengths_or_mask": Lengths(words=("row", "lengths", "mask"))},
}

ROWS = [[1, 2, 3], [4]]
FEATURES = [{"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [3], "labels": [3]}]


def ragged():
    return tb.Ragged.from_sequences([[1, 2], [3], [4]])


def dataset():
    return tb.RaggedDataset({"input_ids": [[1, 2], [3], [4]]})


def sampler():
    return tb.LengthBatchSampler([1, 2, 3], batch_size=2)


def report():
    return tb.half_report({"weight": np.float32([1, 2])})


def collate_with(name, **more):
    """Make a collator of huggingface and collate: it may read its settings when it is called."""

    def call(**settings):
        import tightbatch.huggingface as huggingface

        defaults = {"return_tensors": "np", "pad_token_id": 0, **more}
        collator = getattr(huggingface, name)(**{**defaults, **settings})
        return collator([dict(feature) for feature in FEATURES])

    return call


def made_collator(name, **more):
    def make():
        import tightbatch.huggingface as huggingface

        return getattr(huggingface, name)(return_tensors="np", **more)

    return make


def arrow_table():
    pa = pytest.importorskip("pyarrow")
    return pa.table({"input_ids": [[1, None], [3]]})


def hf_dataset():
    rows = {"input_ids": [[1, 2], [3]]}
    return pytest.importorskip("datasets").Dataset.from_dict(rows)


def hf_dataset_with_null():
    rows = {"input_ids": [[1, None], [3]]}
    return pytest.importorskip("datasets").Dataset.from_dict(rows)


def tokenizer():
    return types.SimpleNamespace(pad_token_id=0, pad_token_type_id=0, padding_side="right")


def training():
    import torch

    model = torch.nn.Linear(2, 1)
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}


def amp():
    from tightbatch.amp import Amp

    return Amp(**training(), dtype="float32")


def loss():
    import torch

    return torch.ones(1, requires_grad=True).sum()


MLM = {"mask_token_id": 1, "vocab_size": 9, "special_token_ids": [0]}
# How each is called rightly: a function (itself by default; of a method, what makes its object)
# and its arguments, where a value that is a function makes the argument.
LENGTHS, SEQUENCES = {"lengths": [2, 1]}, {"sequences": ROWS}
FLOATS = {"x": np.float32([1, 2])}
VALID = {
    "attention_mask": LENGTHS,
    "block_mask": LENGTHS,
    "bucket_boundaries": {**LENGTHS, "k": 1},
    "cu_seqlens": LENGTHS,
    "fixed_pad_sequences": {**SEQUENCES, "max_length": 4},
    "half_report": FLOATS,
    "lengths": {"sequences": dataset, "column": "input_ids"},
    "pack": {**LENGTHS, "capacity": 4},
    "pack_dataset": {"dataset": hf_dataset, "capacity": 4},
    "pad": SEQUENCES,
    "pad_sequences_dynamic": SEQUENCES,
    "position_ids": LENGTHS,
    "segment_ids": LENGTHS,
    "segment_mask": {"segment_ids": [1, 1, 2]},
    "to_bfloat16": FLOATS,
    "to_float16": FLOATS,
    "to_float32": FLOATS,
    "uniform_length_batching": {**SEQUENCES, "batch_size": 2},
    "unpad": {"array": np.ones((2, 3), np.int64), "lengths_or_mask": [1, 2]},
    "LengthBatchSampler": {**LENGTHS, "batch_size": 2, "num_replicas": 2},
    "LengthBatchSampler.load_state_dict": {"state": lambda: sampler().state_dict()},
    "LengthBatchSampler.set_epoch": {"epoch": 1},
    "LengthBatchSampler.state_dict": {},
    "PadCollator": {},
    "PadCollator.__call__": {"samples": FEATURES},
    "PadCollator.from_tokenizer": {"tokenizer": tokenizer},
    "PaddingFreeCollator": {},
    "PaddingFreeCollator.__call__": {"samples": FEATURES},
    "Packing.__getitem__": {"pack": 0},
    "Packing.apply": {"ragged": ragged},
    "Ragged": {"values": np.arange(3), "offsets": [0, 2]},
    "Ragged.__getitem__": {"index": 0},
    "Ragged.compact": {},
    "Ragged.concatenate": {"parts": lambda: [ragged()]},
    "Ragged.from_arrow": {"source": arrow_table, "fill_null": 0},
    "Ragged.from_sequences": SEQUENCES,
    "Ragged.pad": {},
    "Ragged.to_arrow": {},
    "Ragged.tolist": {},
    "RaggedDataset": {"columns": {"input_ids": ROWS}},
    "RaggedDataset.__getitem__": {"index": 0},
    "RaggedDataset.__getitems__": {"indices": [0]},
    "RaggedDataset.from_arrow": {"table": arrow_table, "fill_null": 0},
    "RaggedDataset.from_hf": {"dataset": hf_dataset_with_null, "fill_null": 0},
    "Batch.to": {"device": "cpu"},
    "Batch.pin_memory": {},
    "HalfReport.__contains__": {"name": "weight"},
    "HalfReport.__getitem__": {"key": 0},
    "HalfReport.plot": {},
    "HalfReport.to_dict": {},
    "DataCollatorForLanguageModeling": {},
    "DataCollatorForLanguageModeling.__call__": {"features": FEATURES},
    "DataCollatorForSeq2Seq": {},
    "DataCollatorForSeq2Seq.__call__": {"features": FEATURES},
    "DataCollatorForTokenClassification": {},
    "DataCollatorForTokenClassification.__call__": {"features": FEATURES},
    "DataCollatorWithFlattening": {},
    "DataCollatorWithFlattening.__call__": {"features": FEATURES},
    "DataCollatorWithPadding": {},
    "DataCollatorWithPadding.__call__": {"features": [{"input_ids": [1, 2]}, {"input_ids": [3]}]},
    "Amp": {},
    "Amp.autocast": {},
    "Amp.finish": {},
    "Amp.load_state_dict": {"state_dict": lambda: amp().state_dict()},
    "Amp.state_dict": {},
    "Amp.step": {},
    "GradScaler": {"device": "cpu", "min_scale": 1.0},
    "GradScaler.load_state_dict": {"state_dict": lambda: grad_scaler().state_dict()},
    "GradScaler.step": {"optimizer": lambda: training()["optimizer"]},
    "GradScaler.unscale_": {"optimizer": lambda: training()["optimizer"]},
    "GradScaler.update": {"new_scale": 1.0},
    "Precision.autocast": {},
    "choose_precision": {"device": "cpu"},
}
# What is not called rightly here, and what that needs; other tests do.
NOT_CALLED = {
    "Amp.step": "a loss of the model",
    "Batch.pin_memory": "a GPU",
    "GradScaler.step": "a backward pass",
    "GradScaler.unscale_": "a backward pass",
    "HalfReport.plot": "a figure",
}


def grad_scaler():
    from tightbatch.amp import GradScaler

    return GradScaler("cpu", enabled=False)


def precision():
    from tightbatch.amp import choose_precision

    return choose_precision("cpu")


# What makes the object of a method; of these classes, how their constructor is called.
OBJECTS = {
    "Amp": amp,
    "Batch": tb.Batch,
    "GradScaler": grad_scaler,
    "HalfReport": report,
    "LengthBatchSampler": sampler,
    "PadCollator": lambda: tb.PadCollator(return_tensors="np"),
    "PaddingFreeCollator": lambda: tb.PaddingFreeCollator(return_tensors="np"),
    "Packing": lambda: tb.pack([2, 1, 1], 2),
    "Precision": precision,
    "Ragged": ragged,
    "RaggedDataset": dataset,
    "DataCollatorForLanguageModeling": made_collator(
        "DataCollatorForLanguageModeling", pad_token_id=0, **MLM
    ),
    "DataCollatorForSeq2Seq": made_collator("DataCollatorForSeq2Seq", pad_token_id=0),
    "DataCollatorForTokenClassification": made_collator(
        "DataCollatorForTokenClassification", pad_token_id=0
    ),
    "DataCollatorWithFlattening": made_collator("DataCollatorWithFlattening"),
    "DataCollatorWithPadding": made_collator("DataCollatorWithPadding", pad_token_id=0),
}
CONSTRUCTORS = {
    "Amp": lambda **settings: __import__("tightbatch.amp").amp.Amp(**{**training(), **settings}),
    "DataCollatorForLanguageModeling": collate_with("DataCollatorForLanguageModeling", **MLM),
    "DataCollatorForSeq2Seq": collate_with("DataCollatorForSeq2Seq"),
    "DataCollatorForTokenClassification": collate_with("DataCollatorForTokenClassification"),
    "DataCollatorWithPadding": collate_with("DataCollatorWithPadding"),
}


def public_callables():
    """Give what users call, by the name that messages call it: functions, classes, methods."""
    found = {}
    for module in MODULES:
        if module in NEED_TORCH and not HAS_TORCH:
            continue
        members = importlib.import_module(module)
        for name in members.__all__:
            member = getattr(members, name)
            if not inspect.isclass(member):
                found[name] = member
                continue
            if name not in RESULTS:
                found[name] = member
            own = [
                cls for cls in reversed(member.__mro__) if cls.__module__.startswith("tightbatch")
            ]
            for method in {key: None for cls in own for key in vars(cls)}:
                if method in OPERATORS or not method.startswith("_"):
                    value = inspect.getattr_static(member, method)
                    if inspect.isfunction(value) or isinstance(value, classmethod | staticmethod):
                        found[f"{name}.{method}"] = getattr(member, method)
    return found


CALLABLES = public_callables()


def parameters_of(name):
    function = CALLABLES[name]
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    return {parameter.name: parameter for parameter in parameters}


def annotation_of(name, parameter):
    function = CALLABLES[name]
    if inspect.isclass(function):
        hints = {**typing.get_type_hints(function.__init__), **typing.get_type_hints(function)}
    else:
        hints = typing.get_type_hints(function)
    return hints.get(parameter, typing.Any)


def kind_of(name, parameter):
    """What a parameter is: as a table says, or as its annotation does."""
    kind = OWN.get(name, {}).get(parameter, KINDS.get(parameter))
    if kind is None:
        parts = typing.get_args(annotation_of(name, parameter)) or (annotation_of(name, parameter),)
        if set(parts) <= {bool, types.NoneType}:
            kind = Flag()
        elif all(isinstance(part, str) for part in parts):
            kind = Choice()
    assert isinstance(kind, Kind), f"{name}(): {parameter}= has no kind in KINDS or OWN: add one"
    return kind


def may_be_none(name, parameter):
    hint = annotation_of(name, parameter)
    return parameters_of(name)[parameter].default is None or types.NoneType in typing.get_args(hint)


def call(name, **arguments):
    """Call it rightly but for these arguments."""
    arguments = {**VALID[name], **arguments}
    ready = {key: value() if callable(value) else value for key, value in arguments.items()}
    owner, _, method = name.partition(".")
    function = CONSTRUCTORS.get(name, CALLABLES[name])
    if method and inspect.isfunction(CALLABLES[name]):
        function = getattr(OBJECTS[owner](), method)
    kinds = {key: p.kind for key, p in parameters_of(name).items()}
    first = [ready.pop(key) for key, kind in kinds.items() if kind is kind.POSITIONAL_ONLY]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*first, **ready)


def skip_without_packages(name):
    pytest.importorskip(NEED.get(name, "numpy"))
    if name in ARROW:
        pytest.importorskip("pyarrow")


def complaint(name, parameter, kind, value, errors):
    """What is wrong about how a wrong value is answered, or None."""
    try:
        call(name, **{parameter: (lambda: value)})
    except Exception as error:
        found, message = error, str(error)
    else:
        return "is accepted"
    short = message if len(message) < 200 else f"{message[:200]}... ({len(message)} characters)"
    told = f"{type(found).__name__}: {short}"
    if not isinstance(found, errors):
        return f"gives {told}"
    owner, _, method = name.partition(".")
    place = owner if not method or method in OPERATORS else name
    if not re.search(rf"(?<![\w.]){re.escape(place)}\b", message):
        return f"does not name {place}: {told}"
    if not any(re.search(rf"(?<!\w){word}(?!\w)", message) for word in (parameter, *kind.words)):
        return f"does not name {parameter}: {told}"
    if len(message) > MOST_CHARACTERS:
        return f"has a message of {len(message)} characters: {told}"
    return None


CASES = [(name, parameter) for name in CALLABLES for parameter in parameters_of(name)]


@pytest.mark.parametrize(("name", "parameter"), CASES, ids=lambda value: value)
def test_every_wrong_argument(name, parameter):
    skip_without_packages(name)
    kind = kind_of(name, parameter)
    complaints = [
        f"{parameter}={case} {text}"
        for case, value, errors in kind.wrong(may_be_none(name, parameter))
        if (text := complaint(name, parameter, kind, value, errors)) is not None
    ]
    assert not complaints, f"{name}:\n" + "\n".join(complaints)


@pytest.mark.parametrize("name", CALLABLES)
def test_what_the_wrong_arguments_are_put_into_is_right(name):
    skip_without_packages(name)
    assert name in VALID, f"{name}: how is it called rightly? Say so in VALID"
    if name in NOT_CALLED:
        pytest.skip(f"needs {NOT_CALLED[name]}")
    if name == "Batch.to" and not HAS_TORCH:
        pytest.skip("needs torch")
    call(name)


def test_the_tables_name_nothing_that_is_gone():
    if not HAS_TORCH:
        pytest.skip("without torch tightbatch.amp is not there")
    assert set(VALID) <= set(CALLABLES)
    assert set(OWN) <= set(CALLABLES)
    for name, kinds in OWN.items():
        assert set(kinds) <= set(parameters_of(name)), name
    everywhere = {parameter for _, parameter in CASES}
    assert set(KINDS) <= everywhere, sorted(set(KINDS) - everywhere)
