"""The programs of docs/recipes.md: right gradients, each row once an epoch, resumed anywhere."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

for package in ("torch", "transformers", "trl", "accelerate", "lightning", "torchdata"):
    pytest.importorskip(package)
import torch  # noqa: E402

import tightbatch as tb  # noqa: E402
from recipes import EXAMPLES, load, recorded  # noqa: E402
from recipes import whole as whole_of  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not beside these tests"),
    pytest.mark.filterwarnings("ignore"),  # of Trainers, about this machine
]
CLOSE = 1e-4  # of the largest gradient of each parameter


def check(record, rows, epochs=2):
    """Gradients as of each row alone, and every row once in every epoch."""
    check_ids(record, [row["input_ids"] for row in rows], epochs)


def check_ids(record, rows, epochs=2):
    assert record.checked > 1
    assert record.error < CLOSE
    wanted = Counter(tuple(row) for row in rows)
    assert Counter(record.rows()) == Counter({row: n * epochs for row, n in wanted.items()})
    first = record.rows()[: len(rows)]
    assert Counter(first) == wanted


def check_resumed(whole, stopped, resumed, models):
    """A run that stops and goes on trains on the same batches, to the same weights."""
    assert stopped.steps + resumed.steps == whole.steps
    for a, b in zip(*[model.parameters() for model in models], strict=True):
        assert torch.equal(whole_of(a), whole_of(b))


@pytest.fixture
def accelerate_example(monkeypatch):
    import accelerate

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    module = load("train_accelerate")
    yield module
    accelerate.state.AcceleratorState._reset_state(True)


def test_accelerate(tmp_path, accelerate_example):
    main = accelerate_example.main
    with recorded(check_every=5) as whole:
        model = main(tmp_path)
    check(whole, accelerate_example.rows)
    steps = len(whole.steps)
    for stop in (2, steps // 2):  # within an epoch, and at its end
        with recorded(check_every=99) as stopped:
            main(tmp_path, stop_after=stop)
        with recorded(check_every=99) as resumed:
            again = main(tmp_path, resume=True)
        check_resumed(whole, stopped, resumed, (model, again))


def test_lightning(tmp_path):
    main, rows = (module := load("train_lightning")).main, module.rows
    with recorded(check_every=5) as whole:
        model = main(tmp_path / "whole", save_every=99)
    check(whole, rows)
    steps = len(whole.steps)
    for stop in (2, steps // 2, steps // 2 + 1):
        folder = tmp_path / str(stop)
        with recorded(check_every=99) as stopped:
            main(folder, stop_after=stop, save_every=stop)
        with recorded(check_every=99) as resumed:
            again = main(folder, resume=True, save_every=99)
        check_resumed(whole, stopped, resumed, (model, again))


def test_trl(tmp_path):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 3

    module = load("train_trl")
    with recorded(check_every=4, clip=1.0) as whole:
        trainer = module.main(tmp_path / "whole")
    check_ids(whole, trainer.train_dataset["input_ids"])
    prompts = [
        sum(label == -100 for label in row.labels) for batch in whole.steps[0] for row in batch
    ]
    assert min(prompts) > 5
    with recorded(check_every=99) as stopped:
        module.main(tmp_path, callbacks=[Stop()])
    with recorded(check_every=99) as resumed:
        again = module.main(tmp_path, resume=True)
    check_resumed(whole, stopped, resumed, (trainer.model, again.model))


def trained_and_waiting(module, record, batcher):
    """Documents that were trained on, or wait, and the first ones of the stream that it has read.

    Both are of this rank's share.
    """
    state = batcher.state_dict()
    share, shares = state["share"][:2]
    stream = list(islice(module.Documents(), state["samples"][1]))
    own = [tuple(document) for document in stream[share::shares]]
    waiting = [own[place] for place in state["waiting"]]
    trained = [row.ids for step in record.steps for batch in step for row in batch if row.is_real()]
    return Counter(trained) + Counter(waiting), Counter(own)


@pytest.fixture
def one_rank():
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_titan(tmp_path, one_rank):
    module = load("train_titan")
    with recorded(check_every=10) as whole:
        model, batcher = module.main(tmp_path / "whole", steps=30)
    assert whole.checked == 3
    assert whole.error < CLOSE
    found, read = trained_and_waiting(module, whole, batcher)
    assert found == read
    assert max(read.values()) > 1  # more than an epoch
    with recorded(check_every=99) as stopped:
        module.main(tmp_path, steps=9)
    with recorded(check_every=99) as resumed:
        again, _ = module.main(tmp_path, steps=30, resume=True)
    check_resumed(whole, stopped, resumed, (model, again))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What run_recipes.py found on two ranks, started once."""
    folder = tmp_path_factory.mktemp("ranks")
    here = Path(__file__).parent
    paths = [str(here), str(Path(tb.__file__).parent.parent)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
         str(here / "run_recipes.py"), str(folder)],
        capture_output=True, text=True, timeout=280, cwd=folder, check=False,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.cluster
def test_two_ranks_of_trl(ranks):
    """As many steps on each, the gradients of both, and each row twice in two epochs."""
    found = [own["trl"] for own in ranks]
    assert found[0]["micro"] == found[1]["micro"]
    assert max(own["error"] for own in found) < CLOSE
    trained = Counter(tuple(row) for own in found for step in own["whole"] for row in step)
    assert set(trained.values()) == {2}
    assert len(trained) == len(load("train_trl").samples)


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["accelerate", "lightning", "titan"])
def test_two_ranks(ranks, name):
    """As many steps on each, the gradients of both, each row once an epoch, resumed."""
    found = [own[name] for own in ranks]
    module = load(f"train_{name}")
    assert found[0]["micro"] == found[1]["micro"]
    for own in found:
        assert own["error"] < CLOSE
        assert own["stopped"]
        assert own["stopped"] + own["resumed"] == own["whole"]
    trained = Counter(tuple(row) for own in found for step in own["whole"] for row in step)
    if name == "titan":  # less than an epoch of an endless stream
        assert set(trained.values()) == {1}
        assert set(trained) <= set(map(tuple, module.documents))
    else:
        wanted = Counter(tuple(row["input_ids"]) for row in module.rows)
        assert trained == Counter({row: 2 * n for row, n in wanted.items()})
