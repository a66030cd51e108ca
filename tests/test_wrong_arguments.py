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

import pytest

from conftest import SANITIZED
from right_calls import CONSTRUCTORS, NOT_CALLED, OBJECTS, VALID
from wrong_kinds import (
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
    Keys,
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
MODULES = [
    "tightbatch",
    "tightbatch.huggingface",
    "tightbatch.huggingface.trl",
    "tightbatch.amp",
    "tightbatch.plots",
    "tightbatch.ray",
]
NEED_TORCH = ("tightbatch.amp",)
HAS_RAY = not SANITIZED and importlib.util.find_spec("ray") is not None
# What else is needed, by the function that needs it.
NEED = {
    "PaddingFreeCollator.for_model": "torch",
    "batch_by_length": "transformers",
    "Ragged.from_arrow": "pyarrow",
    "Ragged.to_arrow": "pyarrow",
    "RaggedDataset.from_arrow": "pyarrow",
    "RaggedDataset.from_hf": "datasets",
    "check_model": "torch",
    "ModelReport.summary": "torch",
    "ModelReport.to_dict": "torch",
    "ModelReport.plot": "torch matplotlib",
    "pack_dataset": "datasets",
    "PaddingReport.to_pandas": "pandas",
    **dict.fromkeys(
        (
            "Batch.plot HalfReport.plot Packing.plot PaddingReport.plot plot_batch plot_buckets "
            "plot_exponents plot_leaks plot_lengths plot_packs plot_ranks plot_rows "
            "plot_strategies plot_windows"
        ).split(),
        "matplotlib",
    ),
    "to_bfloat16": "ml_dtypes",
}
# What a message may say, and no more: a value is cut.
MOST_CHARACTERS = 1000

# Methods with two underscores that users call by an operator.
OPERATORS = ("__call__", "__getitem__", "__getitems__", "__contains__")

# Classes that a function makes. Their constructors read no settings.
RESULTS = {
    "Batch": "a dict, with dict's constructor",
    "ConversionCounts": "made by to_float16",
    "BatchReport": "made by check_batch",
    "Chunks": "made by chunk",
    "Finding": "made by check_batch",
    "HalfReport": "made by half_report",
    "Limit": "a tuple, read by LengthBatchSampler and pack: test_several_limits tries them",
    "ModelReport": "made by check_model",
    "Overflow": "made by Amp.overflow",
    "Fairness": "made by LengthBatchSampler.fairness and Packing.fairness",
    "Packing": "made by pack",
    "PaddingReport": "made by analyze",
    "Partition": "made by partition",
    "ContextParallel": "made by context_parallel",
    "Precision": "made by choose_precision",
    "SplitReport": "made by split_report",
    "Cells": "made of any batch by plot_batch",
}

ITERABLES = ("a list", "a long list", "a list of str", "an array", "a set", "a dict")
INDEX_ERRORS = (KeyError, IndexError, TypeError)
STRINGS = ("'1'", "'nonsense'", "a long str")
# What parameters of these names are, wherever they are.
KINDS = {
    "accumulate": Integer(1),
    "batch": Instance(but=("a list of str", "a dict"), error=(TypeError, ValueError)),
    "before": Instance(error=(TypeError, ValueError)),
    "group": Instance(error=(TypeError, ValueError)),
    "theme": Choice(),
    "title": Instance(but=STRINGS),
    "unit": Instance(but=STRINGS),
    "label": Instance(but=STRINGS),
    "ax": Instance(),
    "balance": Integer(1),
    "batch_size": Integer(1),
    "batches_consumed": Integer(0),
    "buffer": Integer(1),
    "buffer_bytes": Integer(1),
    "buffer_tokens": Integer(1),
    "capacity": Integer(1),
    "device": Instance(but=("'1'", "'nonsense'", "a long str")),
    "epoch": Integer(0),
    "fill_null": Fill(),
    "k": Integer(1),
    "limits": Instance(but=("a dict",)),
    "batch_size_multiple": Integer(1, 2),
    "label_pad_token_id": Integer(-(2**63)),
    "mask_token_id": Integer(0),
    "max_length": Integer(0),
    "max_norm": Real(0),
    "max_skipped": Integer(1),
    "max_segments": Integer(1),
    "max_seqlen": Integer(1),
    "max_tokens": Integer(1),
    "num_ranks": Integer(1, 2**61),
    "multiple_of": Integer(1),
    "num_replicas": Integer(1),
    "pad_to_multiple_of": Integer(1),
    "pad_token_id": Integer(-(2**63)),
    "position_ids_start": Integer(0),
    "pool_size": Or(Integer(1), Choice()),
    "quadratic_length": Integer(1),
    "rank": Integer(0, 1),
    "seed": Integer(0, 2**64 - 1),
    "segment_multiple_of": Integer(1),
    "sharded": Choice(),
    "steps": Integer(1),
    "separator_id": Integer(-(2**63)),
    "vocab_size": Integer(1),
    "width": Integer(0),
    "window": Integer(1),
    "growth_interval": Integer(1),
    "ignore_index": Integer(-(2**63)),
    "max_position": Integer(1),
    "skip": Instance(but=("a dict",), error=(TypeError, ValueError)),
    "min_scale": Real(2.0**-126, 2.0**126),
    "max_scale": Real(2.0**-126, 2.0**126),
    "mlm_probability": Real(0, 1),
    "mask_replace_prob": Real(0, 1),
    "random_replace_prob": Real(0, 1),
    "padding_value": Fill(),
    "boundaries": Lengths(),
    "groups": Instance(but=("an array of bools",), error=(TypeError, ValueError)),
    "group_weights": Instance(error=(TypeError, ValueError)),
    "temperature": Instance(error=(TypeError, ValueError)),
    "path": Instance(but=STRINGS),
    "timeout": Real(0, 1e9),
    "epochs": Instance(but=ITERABLES, error=(TypeError, ValueError)),
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
    "strategy": Choice(),
    "tail": Choice(),
    "padding": Or(Flag(), Choice()),
    "features": Samples(words=("sample", "samples")),
    "samples": Samples(words=("sample",)),
    "index": Index(words=("indices",)),
    "tokenizer": Instance(but=("None",)),
    "model": Anything(reason="any object; only its method for decoder inputs is looked at"),
    "special_token_ids": Lengths(but=("a set",)),
}
NUMBERS = Instance(
    but=("an array", "an array of floats", "a list", "a long list"), error=(TypeError, ValueError)
)
COSTS = Instance(but=(*NUMBERS.but, "b'right'"), error=(TypeError, ValueError))
STATE = Instance(error=(TypeError, ValueError))
PACKS = Lengths(words=("row",), rows=True)
TENSOR_LIKE = Array(words=("row",))
STREAM = {
    "tokens": Instance(
        but=("an array", "a list", "a long list", "b'right'"), error=(TypeError, ValueError)
    )
}
IDS = Or(Integer(-(2**63)), Instance(), but=("a list", "a long list", "an array"))
# What parameters are here alone: by the function's name and their own.
OWN = {
    "Amp": {
        "model": Instance(),
        "optimizer": Instance(),
        "scheduler": Instance(),
        "scaler": Instance(),
        "dtype": Or(Choice(), Dtype()),
    },
    "Amp.step": {"loss": Instance(), "batch": Instance(but=("a dict",))},
    "Amp.load_state_dict": {"state_dict": STATE},
    "Batch.pin_memory": {"device": Anything(reason="torch reads it")},
    "Batch.to": {"device": Anything(reason="torch reads it")},
    "GradScaler": {
        "device": Anything(reason="torch's own parameter, and torch reads it"),
        "init_scale": Real(2.0**-126, 2.0**126),
        "growth_factor": Real(1.000001, 3.4028234663852886e38),
        "backoff_factor": Real(0, 0.999999),
        "named_parameters": Instance(but=("a dict", "a set")),
    },
    "GradScaler.scale": {"outputs": Anything(reason="torch's own method, and torch reads it")},
    "GradScaler.load_state_dict": {"state_dict": Instance(but=("a dict",))},
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
    "LengthBatchSampler": {
        "max_length": Integer(1),
        "max_tokens": Integer(1, but=("a dict",)),  # test_schedule tries them
        "lengths": Lengths(rows=True),
    },
    "bucket_boundaries": {"lengths": Lengths(words=("row",), but=("a matrix",))},
    "bucket_groups": {
        "lengths": Lengths(words=("row",)),
        "boundaries": Lengths(words=("row",)),
    },
    "StreamBatcher": {
        "max_length": Integer(1),
        "samples": Instance(
            but=(*ITERABLES[:5], "an array of floats", "an array of bools", "a function", "a type")
        ),
        "length": Instance(but=(*STRINGS, "a function", "a type")),
    },
    "StreamBatcher.in_step": {
        "loader": Instance(
            but=(*ITERABLES, *STRINGS, "b'right'", "an array of floats", "an array of bools")
        )
    },
    "StreamBatcher.load_state_dict": {"state": STATE},
    "LengthBatchSampler.even_out": {"epochs": Integer(1)},
    "LengthBatchSampler.load_state_dict": {"state": STATE},
    "LengthBatchSampler.restore_order": {
        "outputs": Anything(reason="test_batching_order tries what a model may give"),
        "fill": Anything(reason="any object may stand in a list"),
    },
    "PadCollator": {
        "padding_value": ByKey(kind=AnyFill()),
        "width": ByKey(kind=Integer(0)),
        "max_length": ByKey(kind=Integer(0)),
        "pad_to_multiple_of": ByKey(kind=Integer(1)),
        "boundaries": ByKey(kind=Lengths()),
        "dtype": ByKey(kind=Dtype()),
        "padding_side": ByKey(kind=Choice()),
        "return_lengths": Keys(but=("True", "False", "np.True_", "a dict")),
        **dict.fromkeys(("keep", "stack", "concat", "time_last"), Keys()),
        "rename": Instance(but=("a dict",)),
    },
    "PadCollator.from_tokenizer": {
        "tokenizer": Instance(),
        "options": Anything(reason="PadCollator's, tried there"),
    },
    "PaddingFreeCollator.for_model": {
        "model": Instance(),
        "options": Anything(reason="PaddingFreeCollator's, tried there"),
    },
    "PaddingFreeCollator": {
        "attention_mask": Choice(),
        "padding_value": ByKey(kind=AnyFill()),
        "dtype": ByKey(kind=Dtype()),
    },
    "ContextParallel.restore": {"shares": Instance(error=(TypeError, ValueError))},
    "ContextParallel.shard": {
        "values": Instance(error=(TypeError, ValueError)),
        "padding_value": AnyFill(),
    },
    "ContextParallel.shard_labels": {"labels": Instance(error=(TypeError, ValueError))},
    "Packing.__getitem__": {"pack": Index()},
    "Partition.__getitem__": {"part": Index()},
    "Partition.loss_weights": {"tokens": Lengths(), "num_items": Integer(4)},
    "Partition.restore": {"outputs": Anything(reason="test_partition tries what a model may give")},
    "partition": {"costs": COSTS, "cap": Real(2, 1.7e308)},
    "shard_batch": {
        "batch": Instance(error=(TypeError, ValueError)),
        "padding_value": AnyFill(),
        "num_ranks": Integer(2, 2**61),
    },
    "Packing.apply": {"ragged": Instance()},
    "Chunks.apply": {"ragged": Instance()},
    "Chunks.merge": {"outputs": Array(words=("row", "outputs"))},
    "Ragged.from_tokens": {**STREAM, "end": IDS, "start": Anything(reason="as end")},
    "split_report": {**STREAM, "candidates": Instance(but=("a dict",))},
    "chunk": {"rows": Instance(), "max_length": Integer(1), "overlap": Integer(0)},
    "windows": {
        "rows": Instance(),
        "length": Integer(1),
        "stride": Integer(1),
        "column": Instance(but=STRINGS),
    },
    "Ragged": {
        "values": Array(words=("row",), bytes=True),
        "offsets": Places(),
        "lengths": Lengths(words=("row",)),
    },
    "Ragged.concatenate": {"parts": Instance(error=(TypeError, ValueError))},
    "Ragged.from_arrow": {"source": Instance()},
    "RaggedDataset": {"columns": Instance(but=("a dict",))},
    "RaggedDataset.from_arrow": {"table": Instance()},
    "RaggedDataset.from_hf": {"dataset": Instance()},
    "RaggedDataset.__getitem__": {"index": Anything(reason="a name, or what __getitems__ takes")},
    "RaggedDataset.__getitems__": {"indices": Index(one=False)},
    "analyze": {
        "data": Rows(words=("row", "data", "sequences"), looks=False),
        "max_length": Integer(1),
        "buckets": Integer(1),
        "sampler": Instance(
            but=("a list", "a long list", "an array", "a set"),
            error=(TypeError, ValueError, IndexError),
        ),
    },
    "WasteMeter": {
        "loader": Instance(
            but=(
                "'1'",
                "'nonsense'",
                "a long str",
                "b'right'",
                "a dict",
                *ITERABLES[:4],
                "a set",
                "an array of floats",
                "an array of bools",
            )
        ),
    },
    "PaddingReport.__getitem__": {"strategy": Instance(error=KeyError)},
    "knee": {"waste": NUMBERS},
    "plot_buckets": {"waste": NUMBERS, "real": Integer(0, 2**62), "chosen": Integer(1, 2)},
    "plot_exponents": {"counts": Lengths()},
    "plot_leaks": {
        "rows": Instance(but=("a list of str",)),
        "movements": Instance(error=(TypeError, ValueError)),
        "tolerance": Real(0, 1e300),
        "note": Instance(but=STRINGS),
    },
    "plot_lengths": {
        "counts": Lengths(),
        "boundaries": Lengths(),
        "max_length": Integer(1, 2**62),
    },
    "plot_packs": {
        "pack_lengths": Lengths(words=("pack",)),
        "capacity": Integer(4, 2**62),
        "segments": Instance(error=(TypeError, ValueError)),
        "lower_bound": Integer(0, 2**62),
    },
    "plot_ranks": {"loads": NUMBERS},
    "plot_rows": {"panels": Instance(error=(TypeError, ValueError))},
    "plot_strategies": {"tokens": Instance(but=("a dict",))},
    "plot_windows": {
        "windows": Lengths(),
        "padding": NUMBERS,
        "randomness": NUMBERS,
        "chosen": Integer(0, 2**62),
    },
    "batch_by_length": {
        "trainer": Instance(),
        "column": Instance(but=("'1'", "'nonsense'", "a long str")),
        "settings": Anything(reason="LengthBatchSampler's, tried there"),
    },
    "BatchLoader": {
        "shard": Instance(),
        "options": Anything(reason="iter_torch_batches's, and Ray reads them"),
    },
    "BatchLoader.load_state_dict": {"state": STATE},
    "CollateFn": {"collator": Instance(but=("a function", "a type"))},
    "CollateFn.__call__": {"batch": Instance(but=("a dict",), error=(TypeError, ValueError))},
    "LoadBatch.__call__": {"batch": Instance(error=TypeError)},
    "StoreBatch": {"collator": Instance(but=("a function", "a type"))},
    "StoreBatch.__call__": {"batch": Instance(but=("a dict",), error=(TypeError, ValueError))},
    "ray:batch_by_length": {
        "dataset": Instance(),
        "collator": Instance(but=("a function", "a type")),
        "num_workers": Integer(1),
        "length": Instance(but=STRINGS),
        "fill_null": Anything(reason="CollateFn's, tried there"),
        "options": Anything(reason="StreamBatcher's, tried there"),
    },
    "ray:pack_dataset": {"dataset": Instance()},
    "block_mask": {
        "block_size": Or(first=Integer(1), second=Instance(error=ValueError)),
        "lengths": PACKS,
    },
    "check_batch": {"batch": Instance(error=(TypeError, ValueError))},
    "CheckedCollator": {
        "collate_fn": Instance(but=("a function", "a type")),
        "every": Integer(1),
    },
    "CheckedCollator.__call__": {"samples": Anything(reason="the collate function reads it")},
    "check_model": {
        "model": Instance(),
        "collate_fn": Instance(but=("a function",)),
        "samples": Samples(words=("sample",)),
        "tolerance": Real(0, 1e300),
        "call": Instance(but=("a function",)),
        "outputs": Instance(error=(TypeError, ValueError)),
        "seed": Integer(0),
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


def public_callables():
    """Give what users call, by the name that messages call it: functions, classes, methods."""
    found = {}
    for module in MODULES:
        if module in NEED_TORCH and not HAS_TORCH:
            continue
        if module == "tightbatch.ray" and not HAS_RAY:
            continue
        members = importlib.import_module(module)
        for name in members.__all__:
            member = getattr(members, name)
            if name in found:  # two modules have a class of this name
                name = f"{module.rpartition('.')[2]}:{name}"
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
        hints = {**typing.get_type_hints(function), **typing.get_type_hints(function.__init__)}
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
    for package in NEED.get(name, "numpy").split():
        pytest.importorskip(package)


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
    place = (owner if not method or method in OPERATORS else name).rpartition(":")[2]
    behind = r"(\(\)|: )" if method in OPERATORS else r"\(\)"
    if not re.search(rf"(?<![\w.]){re.escape(place)}{behind}", message):
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
        if case not in kind.but
        and (text := complaint(name, parameter, kind, value, errors)) is not None
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
    if not (HAS_TORCH and HAS_RAY):
        pytest.skip("tightbatch.amp needs torch, and tightbatch.ray needs Ray")
    assert set(VALID) <= set(CALLABLES)
    assert set(OWN) <= set(CALLABLES)
    for name, kinds in OWN.items():
        assert set(kinds) <= set(parameters_of(name)), name
    everywhere = {parameter for _, parameter in CASES}
    assert set(KINDS) <= everywhere, sorted(set(KINDS) - everywhere)
