"""The programs of docs/recipes.md: right gradients, each row once an epoch, resumed anywhere."""

from collections import Counter

import pytest

for package in ("torch", "transformers", "accelerate", "lightning", "torchdata"):
    pytest.importorskip(package)
import torch  # noqa: E402

from recipes import EXAMPLES, load, recorded  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not beside these tests"),
    pytest.mark.filterwarnings("ignore"),  # of Trainers, about this machine
]
CLOSE = 1e-4  # of the largest gradient of each parameter


def check(record, rows, epochs=2):
    """Gradients as of each row alone, and every row once in every epoch."""
    assert record.checked > 1
    assert record.error < CLOSE
    wanted = Counter(tuple(row["input_ids"]) for row in rows)
    assert Counter(record.rows()) == Counter({row: n * epochs for row, n in wanted.items()})
    first = record.rows()[: len(rows)]
    assert Counter(first) == wanted


def check_resumed(whole, stopped, resumed, models):
    """A run that stops and goes on trains on the same batches, to the same weights."""
    assert stopped.steps + resumed.steps == whole.steps
    for a, b in zip(*[model.parameters() for model in models], strict=True):
        assert torch.equal(a, b)


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
    for stop in (2, steps // 2, steps // 2 + 1):  # within an epoch, at its end, and in the next
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
