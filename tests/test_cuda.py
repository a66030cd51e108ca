"""benchmarks/cuda.py: it runs whole on a CPU; on a GPU what it compares is equal."""

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parent.parent
if not (ROOT / "benchmarks" / "cuda.py").exists():
    pytest.skip("a source distribution has no benchmarks", allow_module_level=True)
sys.path.append(str(ROOT / "benchmarks"))
import cuda  # noqa: E402
import tightbatch as tb  # noqa: E402
from gpu import page  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
TYPES = ("float32", "bfloat16", "float16")


def troubles(found):
    """What failed, or was not equal, or was left out."""
    return cuda._troubles(found)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """All sections on the CPU, as `python benchmarks/cuda.py --tiny` runs them."""
    path = tmp_path_factory.mktemp("cuda") / "results.json"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    arguments = ["--tiny", "--one-process", "--device", "cpu", "--seconds", "6000"]
    found = cuda.main([*arguments, "--json", str(path)])
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    assert json.loads(path.read_text()) == found
    return found


def test_every_section_runs_and_finds_all_equal(results):
    assert list(results["sections"]) == list(cuda.SECTIONS)
    assert troubles(results["sections"]) == ""
    assert results["device"] == "cpu"


def test_attention_equals_each_row_alone(results):
    found = results["sections"]["attention"]
    for name in TYPES:
        for kind in ("each row alone", "one dense mask", "flex_attention"):
            assert found[f"{name}: {kind}"]["equal"]
    assert found["float32: flex_attention"]["difference"] < 1e-5


def test_boundaries_bound_the_graphs(results):
    found = results["sections"]["compiling"]
    with_them = found["graphs, boundaries, static shapes"]
    without = found["graphs, padded to the longest, static shapes"]
    assert with_them["graphs"] == with_them["shapes"] <= len(found["boundaries"])
    assert without["graphs"] == without["shapes"] > with_them["graphs"]


@pytest.mark.parametrize("dtype", TYPES)
def test_training_sees_the_same_rows_under_every_way(results, dtype):
    found = results["sections"]["training"][dtype]
    assert found["same_rows"]["equal"]
    ways = found["ways"]
    assert {way["real_tokens"] for way in ways.values()} == {ways["packed"]["real_tokens"]}
    assert ways["padding-free"]["padding"] == 0
    waste = [ways[name]["padding"] for name in ("fixed padding", "padding to the longest")]
    assert waste[0] > waste[1] > ways["uniform-length batches"]["padding"] > 0
    for way in ways.values():
        assert way["steps_done"] == way["steps"]
        assert way["loss"] < found["loss_before"]


def test_the_page_has_a_table_of_each_section(results):
    text = page.figures(results)
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(heads) == len(cuda.SECTIONS) - 1
    for dtype in TYPES:
        assert f"| {dtype}, padding-free |" in text
    assert "Not measured" not in text
    whole = page.page((ROOT / "docs" / "benchmarks-gpu.md").read_text(encoding="utf-8"), results)
    assert page.page(whole, results) == whole
    assert text in whole


def test_the_page_says_what_is_missing(results):
    sections = {**results["sections"], "loading": {"skipped": "no time was left"}}
    sections["attention"] = {
        **sections["attention"],
        "float16: flex_attention": {"failed": "RuntimeError: none\nand more"},
        "failed": "ended after 90 s",
    }
    text = page.figures({**results, "sections": sections})
    assert "- Not measured: float16: flex_attention (RuntimeError: none)." in text
    assert "- Not measured: the rest of the section (ended after 90 s)." in text
    assert "- Not measured: the section (no time was left)." in text


def test_figures_of_a_cpu_are_not_published(results, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    before = cuda.PAGE.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match=r"figures of cpu, tiny sizes; expected those of a GPU"):
        cuda.main(["--update-docs", str(path)])
    assert cuda.PAGE.read_text(encoding="utf-8") == before


def test_time_is_shared_by_weight():
    left, spent = 365.0, 0.0
    for name in cuda.SECTIONS:
        share = cuda.share_of(name, left - spent)
        assert 0 < share <= left - spent
        spent += share
    assert spent == pytest.approx(left)


@pytest.mark.cuda
@pytest.mark.parametrize("section", ["attention", "loading", "precision", "metering"])
def test_on_a_gpu_all_is_equal(section):
    found = cuda.run_section(section, 600.0, True, lambda found: None, "cuda")
    assert troubles(found) == ""
    assert found


@pytest.mark.cuda
def test_on_a_gpu_ways_of_training_agree():
    found = cuda.run_section("training", 600.0, True, lambda found: None, "cuda")
    assert troubles(found) == ""
    for dtype in TYPES:
        assert found[dtype]["same_rows"]["equal"]
        assert found[dtype]["ways"]["padding-free"]["attention"] != "each row alone"


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "options", [{}, {"max_tokens": 48, "max_segments": 8, "max_seqlen": 48}], ids=repr
)
def test_on_a_gpu_varlen_attention_takes_the_batch(options, dtype):
    from gpu import attention

    samples = [{"input_ids": [1] * n} for n in (5, 1, 12, 7)]
    batch = tb.PaddingFreeCollator(naming="varlen_attn", **options)(samples)
    count = batch["input_ids"].shape[1]
    batch.pin_memory().to("cuda", non_blocking=True)
    torch.manual_seed(0)
    inputs = [torch.randn(count, 2, 32, device="cuda").to(dtype) for _ in range(4)]
    bounds, longest = batch["cu_seq_q"], batch["max_q"]
    found, expected = (
        attention.gradients(lambda *x, a=attend: a(*x, bounds, longest), inputs[:3], inputs[3])
        for attend in (attention.varlen, attention.alone)
    )
    assert attention.differ(found, expected, bounds) < (2e-2 if dtype == torch.bfloat16 else 3e-3)


@pytest.mark.cuda
def test_on_a_gpu_a_loader_pins_nested_batches():
    rows = [{"input_ids": [1] * n, "more": {"scores": [0.5] * n}} for n in (3, 5, 2, 4)]
    loader = torch.utils.data.DataLoader(
        rows, batch_size=2, collate_fn=tb.PadCollator(), pin_memory=True
    )
    for batch in loader:
        assert type(batch) is type(batch["more"]) is tb.Batch
        assert batch["input_ids"].is_pinned()
        assert batch["more"]["scores"].is_pinned()
        plain = batch["more"]["scores"].clone()
        assert batch.to("cuda", non_blocking=True) is batch
        assert batch["more"]["scores"].device.type == "cuda"
        assert torch.equal(batch["more"]["scores"].cpu(), plain)
