"""Real ranks of torchrun, with gloo: what ranks_program.py found on each of them."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "train_ddp.py"
pytestmark = pytest.mark.cluster
RUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ROWS = list(range(203))


def torchrun(ranks, *arguments):
    """Run a program on ranks of this machine; give how torchrun ended, and what it said."""
    paths = [str(HERE.parent / "python"), os.environ.get("PYTHONPATH", "")]
    is_built = any(HERE.parent.glob("python/tightbatch/_core.*.so"))
    done = subprocess.run(
        [*RUN, str(ranks), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        | ({"PYTHONPATH": os.pathsep.join(filter(None, paths))} if is_built else {}),
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module", params=[2, 4])
def answers(request, tmp_path_factory):
    """What each rank has found: one start for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    code, _, said = torchrun(request.param, HERE / "ranks_program.py", "check", folder)
    assert code == 0, said
    found = [
        json.loads((folder / f"answers-{rank}.json").read_text()) for rank in range(request.param)
    ]
    assert [answer["ranks"] for answer in found] == [request.param] * request.param
    return found


def flat(batches):
    return list(itertools.chain(*batches))


PLANS = ["padded", "padded, rows", "padding-free", "packs"]


@pytest.mark.parametrize("plan", PLANS)
def test_a_sampler_gives_each_row_once_in_as_many_steps(answers, plan):
    found = [answer["sampler"][plan] for answer in answers]
    assert sorted(flat(flat(each["rows"] for each in found))) == ROWS
    assert {len(each["rows"]) for each in found} == {found[0]["length"]}
    assert all(each["model"] == found[0]["model"] for each in found)  # the ranks agree, bit by bit


@pytest.mark.parametrize("plan", ["padded", "packs"])
@pytest.mark.parametrize("way", ["in_step", "join"])
def test_a_stream_gives_each_row_once_whatever_the_tails(answers, plan, way):
    found = [answer["stream"][f"{plan}, {way}"] for answer in answers]
    steps = [len(each["rows"]) for each in found]
    assert all(each["model"] == found[0]["model"] for each in found)
    if way == "join":
        assert sorted(flat(flat(each["rows"] for each in found))) == ROWS
        assert len(set(steps)) > 1 or len(answers) == 2
    else:
        assert len(set(steps)) == 1
        assert sorted(set(flat(flat(each["rows"] for each in found)))) == ROWS
        batches = [tuple(batch) for each in found for batch in each["rows"]]
        assert len(batches) - len(set(batches)) == found[0]["repeated"]


def test_a_stream_makes_the_steps_it_was_asked_for(answers):
    found = [answer["stream"]["padded, rows, steps"] for answer in answers]
    assert [len(each["rows"]) for each in found] == [20] * len(answers)
    assert all(each["model"] == found[0]["model"] for each in found)


@pytest.mark.parametrize("plan", PLANS)
def test_accumulated_gradients_are_those_of_one_process(answers, plan):
    for answer in answers:
        found = answer["accumulated"][plan]
        assert found["exact"] < 1e-13  # of the largest
        assert found["mean of means"] > 1e-3


def test_ranks_agree_on_the_number_of_micro_batches(answers):
    found = [answer["parts"] for answer in answers]
    alone = [each["alone"] for each in found]
    assert [each["parts"] for each in found] == [max(alone)] * len(answers)
    assert min(alone) < max(alone)
    assert all(each["largest"] <= 90 and each["rows"] for each in found)
    assert all(each["exact"] < 1e-14 for each in found)


@pytest.mark.parametrize("plan", ["padded", "packs"])
def test_sharded_parameters_train_on_batches_of_other_shapes(answers, plan):
    """FSDP2, DDP and one process have the same losses, and the same parameters at the end."""
    found = [answer["sharded"][plan] for answer in answers]
    shapes = [
        tuple(map(tuple, step)) for step in zip(*(each["shapes"] for each in found), strict=True)
    ]
    assert any(len(set(step)) > 1 for step in shapes)
    for each in found:
        one = each["losses"]["one process"]
        assert each["losses"]["plain"] == pytest.approx(one, rel=1e-12)
        assert each["losses"]["sharded"] == pytest.approx(one, rel=1e-12)
        assert each["plain"] < 1e-14
        assert each["sharded"] < 1e-14


def test_ranks_of_a_mesh_share_each_batch(answers):
    found = [answer["context"] for answer in answers]
    by_group = {each["dp"]: each["rows"] for each in found}
    assert all(by_group[each["dp"]] == each["rows"] for each in found)
    assert len(by_group) == len(answers) // 2
    assert sorted(flat(flat(by_group.values()))) == ROWS
    assert max(each["difference"] for each in found) < 1e-11


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="examples are not beside these tests")
def test_the_example_goes_on_with_more_ranks(tmp_path):
    said = ""
    for ranks, arguments in ((2, ["--steps", "8"]), (3, [])):
        code, out, errors = torchrun(
            ranks, EXAMPLE, "--checkpoint", tmp_path / "state.pt", *arguments
        )
        assert code == 0, errors
        said += out
    pattern = r"epoch (\d): (\d+) of (\d+) rows on (\d) ranks, \d+ batches on each, loss ([.\d]+)"
    first, begun, ended = re.findall(pattern, said)
    assert first[1] == first[2]
    assert int(begun[1]) + int(ended[1]) == int(first[1])
    assert [line[3] for line in (first, begun, ended)] == ["2", "2", "3"]
    assert float(first[4]) > float(begun[4]) > float(ended[4])


def test_a_killed_run_goes_on_with_fewer_ranks(tmp_path):
    program = HERE / "ranks_program.py"
    code, _, said = torchrun(4, program, "train", tmp_path, 6)
    assert code != 0
    assert f"Signal {int(signal.SIGKILL)}" in said, said
    assert not list(tmp_path.glob("end-*"))
    code, _, said = torchrun(3, program, "train", tmp_path, 0)
    assert code == 0, said
    ends = [json.loads((tmp_path / f"end-3-{rank}.json").read_text()) for rank in range(3)]
    assert {end["begun"] for end in ends} == {5}
    assert {end["steps"] > 2 for end in ends} == {True}
    for source in ("sampler", "stream"):
        assert sorted(flat(end["seen"][source] for end in ends)) == ROWS
