"""Rules about the project itself: what may depend on what, examples that run, imports."""

import ast
import doctest
import importlib
import itertools
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import tightbatch as tb
from checks import RESULTS

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
CORE = CSRC / "core"
BINDING = CSRC / "py"
PACKAGE = ROOT / "python" / "tightbatch"

# Who may use whom: a room uses what stands in lines above its own, and itself. Rooms in one line
# know nothing of each other.
C_ROOMS = [
    ["core/base"],  # status, sizes, memory, sorting
    ["core/cast"],  # element types and their conversion
    # What is done with elements, and what is done with lengths, apart from each other.
    ["core/layout", "core/plan", "core/arrow", "core/loss", "core/check"],
    ["py/base"],  # errors, the module's state
    ["py/input"],  # what is handed in, read into structs and into plain memory
    ["py/output"],  # batches, out=, Arrow: what is handed out
    ["py/wrap"],  # the functions of _core
]
PYTHON_ROOMS = [
    ["_core"],
    ["_types", "_words", "_html", "_numpy_fallback", "_mapped"],
    ["_split"],  # streams of tokens into rows
    ["plots"],  # pictures of plain numbers
    ["ragged", "masks"],
    [
        "_arrow",
        "_records",
        "padding",
        "half",
        "zigzag",
    ],  # columns of Arrow are Ragged; unpad() gives one
    ["dataset"],  # columns, and their lengths
    ["tokens", "split_report"],  # windows and chunks of documents are datasets
    ["sampling"],  # pack_dataset() reads datasets
    ["collate"],
    ["huggingface", "amp", "checks", "ray"],  # checks take any batch and any model
    ["analysis"],  # plans of data sets, and the batches of loaders
    ["tightbatch"],  # __init__.py
    ["compare"],  # a user of the package
    ["cli"],  # the command line
    ["__main__"],
]
MODULES = [
    "analysis.analyze",
    "analysis.meter",
    "analysis.report",
    "padding",
    "ragged",
    "dataset",
    "tokens",
    "split_report",
    "masks",
    "collate.batch",
    "collate.picture",
    "collate.padded",
    "collate.padding_free",
    "sampling.sampler",
    "sampling.packing",
    "sampling.streaming",
    "sampling.buckets",
    "sampling.results",
    "sampling.saved_packing",
    "sampling.saving",
    "sampling.partition",
    "zigzag",
    "collate.zigzag",
    "half.conversion",
    "half.report",
    "plots.exponents",
    "plots.leaks",
    "plots.lengths",
    "plots.packs",
    "plots.rows",
    "plots.waste",
    "amp.grad_scaler",
    "amp.overflow",
    "amp.precision",
    "amp.step",
    "checks.batch",
    "checks.batch_report",
    "checks.model",
    "checks.model_report",
    "huggingface.padding",
    "huggingface.language_modeling",
    "huggingface.flattening",
    "huggingface.trl",
    "ray.collating",
    "ray.storing",
]
# What examples use that a user of these modules has.
NEEDED = {
    "analysis": "numpy",
    "analysis.report": "matplotlib",
    "ragged": "pyarrow",
    "dataset": "datasets",
    "collate": "torch",
    "collate.padding_free": "transformers",
    "collate.picture": "matplotlib",
    "plots": "matplotlib",
    "sampling.packing": "datasets",
    "half.conversion": "ml_dtypes",
    "amp": "torch",
    "checks.batch": "numpy",
    "checks.batch_report": "numpy",
    "checks": "torch",
    "huggingface": "torch",
    "ray": "ray.data",
}


def includes(path):
    return re.findall(r'^#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def run(code, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=120
    )


def c_unit(path):
    """A .c file and its headers are one: "core/layout/pad"."""
    return re.sub(r"(\.inc)?\.[ch]$", "", str(path))


def c_uses():
    """Which units each unit uses: by #include, and by name, whoever declares the name."""
    paths = [path for path in CSRC.rglob("*.[ch]") if path.is_file()]
    texts = {path: re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL) for path in paths}
    unit_of = {path: c_unit(path.relative_to(CSRC).as_posix()) for path in paths}
    defined = {
        name: unit_of[path]
        for path in paths
        if path.suffix == ".c"
        for name in re.findall(
            r"^(?:const )?(?:PyMethodDef )?(tb_\w+)(?:\(|\[\] =)", texts[path], re.MULTILINE
        )
    }
    uses = {unit: set() for unit in unit_of.values()}
    for path in paths:
        found = {c_unit(name) for name in includes(path)} & set(uses)
        if path.suffix == ".c":
            found |= {defined[n] for n in re.findall(r"\btb_\w+", texts[path]) if n in defined}
        uses[unit_of[path]] |= found - {unit_of[path]}
    return uses


def c_room(unit):
    return "/".join(unit.split("/")[:2])


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("tightbatch", *(part for part in parts if part != "__init__")))


def imported(path, modules):
    """The modules of ours that a file imports, inside functions too; not for type checkers."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in itertools.chain.from_iterable(map(ast.walk, branch.body))
    }
    here = module_name(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *filter(None, [node.module])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                name = full if full in modules else base
                if name in modules:
                    yield name


def python_uses():
    """Which modules of the package each module imports."""
    paths = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    modules = {*paths, "tightbatch._core"}
    uses = {name: set(imported(path, modules)) - {name} for name, path in paths.items()}
    return {**uses, "tightbatch._core": set()}


def python_room(module):
    return module.split(".")[1] if "." in module else module


def assert_one_way(uses, rooms, room_of):
    """No file uses what stands below it, and no files use each other in a circle."""
    line = {room: i for i, names in enumerate(rooms) for room in names}
    assert {room_of(one) for one in uses} <= set(line)
    wrong = [
        f"{one} -> {other}"
        for one, others in uses.items()
        for other in others
        if room_of(one) != room_of(other) and line[room_of(other)] >= line[room_of(one)]
    ]
    assert not wrong
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_c_files_depend_one_way():
    uses = c_uses()
    assert "core/base/status" in uses["core/cast/cast"] | uses["py/base/tb_numpy"]
    assert len(uses) > 60
    assert_one_way(uses, C_ROOMS, c_room)
    assert set(itertools.chain(*C_ROOMS)) == {c_room(unit) for unit in uses}


def test_python_modules_depend_one_way():
    uses = python_uses()
    assert "tightbatch._core" in uses["tightbatch.ragged"]
    assert_one_way(uses, PYTHON_ROOMS, python_room)
    assert set(itertools.chain(*PYTHON_ROOMS)) == {python_room(module) for module in uses}


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        ({"core/base/a": {"core/cast/b"}, "core/cast/b": set()}, "core/base/a -> core/cast/b"),
        ({"core/plan/a": {"core/arrow/b"}, "core/arrow/b": set()}, "core/plan/a"),
        ({"core/base/a": {"py/base/b"}, "py/base/b": set()}, "py/base/b"),
        ({"core/base/a": {"core/base/b"}, "core/base/b": {"core/base/a"}}, "a circle"),
        ({"core/hall/a": set()}, "core/hall"),
    ],
    ids=["up", "beside", "to the binding", "circle", "no room"],
)
def test_the_rule_is_seen_to_be_broken(uses, told):
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        assert_one_way(uses, C_ROOMS, c_room)
    assert told in str(caught.value)


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.[ch]")), ids=lambda p: p.name)
def test_the_core_knows_neither_python_nor_the_binding(path):
    standard = {
        "arm_neon.h",
        "cpuid.h",
        "emmintrin.h",
        "fenv.h",
        "float.h",
        "immintrin.h",
        "intrin.h",
        "limits.h",
        "math.h",
        "stddef.h",
        "stdint.h",
        "stdlib.h",
        "string.h",
        "sys/mman.h",  # Linux: advice on pages
    }
    own = {str(header.relative_to(ROOT / "csrc")) for header in CORE.rglob("*.h")}
    assert set(includes(path)) <= standard | own


@pytest.mark.parametrize("path", sorted(BINDING.rglob("*.c")), ids=lambda p: p.name)
def test_numpy_and_python_come_through_one_header(path):
    assert not {name for name in includes(path) if name.startswith(("Python", "numpy"))}


def test_one_header_knows_versions_of_python():
    paths = [*ROOT.glob("csrc/**/*.[ch]"), *ROOT.glob("tests/c/*.[ch]")]
    knowing = [path.name for path in paths if "PY_VERSION_HEX" in path.read_text()]
    assert knowing == ["compat.h"]


def test_names_that_the_linker_sees_have_the_prefix():
    hidden = re.compile(r"^(TARGET )?static|^INLINE")
    for path in [*CORE.rglob("*.c"), *BINDING.rglob("*.c")]:
        for name in re.findall(r"^([a-z]\w*)\(", path.read_text(), re.MULTILINE):
            before = path.read_text().split(f"\n{name}(")[0].rsplit("\n", 1)[-1]
            assert name.startswith(("tb_", "PyInit_")) or hidden.search(before), (path, name)


def test_every_function_of_c_is_called():
    def read(pattern):
        text = "\n".join(path.read_text() for path in CSRC.rglob(pattern))
        return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)

    code, headers = read("*.c"), read("*.h")
    used = Counter(re.findall(r"\btb_\w+", f"{code}\n{headers}"))
    declared = Counter(re.findall(r"\btb_\w+(?=\()", headers))
    defined = re.findall(r"^(tb_\w+)\(", code, re.MULTILINE)
    assert len(defined) > 200
    assert not [name for name in defined if used[name] <= 1 + min(declared[name], 1)]


def test_files_stay_readable():
    for path in [*ROOT.glob("csrc/**/*.[ch]"), *ROOT.glob("python/**/*.py")]:
        assert len(path.read_text().splitlines()) <= 500, path


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    needed = NEEDED.get(name) or NEEDED.get(name.split(".")[0], "numpy")
    pytest.importorskip("torch" if needed == "transformers" else "numpy")
    pytest.importorskip(needed)
    module = importlib.import_module(f"tightbatch.{name}")
    tests = [
        test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples
    ]
    assert tests
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test)
    assert runner.summarize().failed == 0


def test_the_data_collators_are_documented():
    import tightbatch.huggingface.trl

    for module in (tightbatch.huggingface, tightbatch.huggingface.trl):
        for name in module.__all__:
            doc = getattr(module, name).__doc__
            assert ">>> " in doc
            assert "Raises" in doc


def test_mixed_precision_is_documented():
    pytest.importorskip("torch")
    import tightbatch.amp as amp

    for name in amp.__all__:
        doc = getattr(amp, name).__doc__
        assert ">>> " in doc or name == "Precision"
        assert "Raises" in doc or name in ("Precision", "Overflow")


@pytest.mark.parametrize("name", [n for n in tb.__all__ if callable(getattr(tb, n))])
def test_what_is_public_is_documented(name):
    doc = getattr(tb, name).__doc__
    assert doc
    assert ">>> " in doc
    if name not in RESULTS:
        assert "Raises" in doc


def test_importing_imports_numpy_and_nothing_else_of_others():
    code = (
        "import sys, numpy; before = set(sys.modules); import tightbatch;"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names)))"
    )
    done = run(code, "-W", "error")
    assert done.stdout.strip() == "['numpy', 'tightbatch']", done.stderr


def test_completion_shows_what_is_public():
    assert set(dir(tb)) == {*tb.__all__, "amp", "huggingface", "plots", "ray", "__version__"}


def test_subpackages_come_when_they_are_used():
    pytest.importorskip("torch")
    code = (
        "import sys, tightbatch as tb; before = 'torch' in sys.modules;"
        "print(before, tb.amp.GradScaler.__name__, tb.huggingface.DataCollatorWithPadding.__name__)"
    )
    assert run(code).stdout.split() == ["False", "GradScaler", "DataCollatorWithPadding"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        tb.nothing  # noqa: B018


def test_without_torch_the_module_has_no_amp():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import tightbatch as tb\n"
        "print(hasattr(tb, 'amp'), 'amp' in dir(tb))\n"
        "try:\n"
        "    tb.amp\n"
        "except AttributeError as error:\n"
        "    print(type(error.__cause__).__name__, error)\n"
        "try:\n"
        "    from tightbatch import amp\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    there, told, imported_anyway = done.stdout.splitlines()
    assert there == "False True"
    assert told.startswith("ImportError ")
    assert "pip install torch" in told
    assert imported_anyway == "tightbatch.amp needs torch: python -m pip install torch"


def test_the_versions_agree():
    from importlib.metadata import version

    assert tb.__version__ == version("tightbatch")


def test_hostile_45_a_subinterpreter_is_refused_or_works():
    """NumPy decides: whatever it says, the process goes on."""
    if sys.version_info >= (3, 14):
        start = "from concurrent import interpreters\nrun = interpreters.create().exec\n"
    else:
        name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
        start = (
            f"import {name} as interpreters\n"
            "i = interpreters.create()\n"
            "run = lambda code: interpreters.run_string(i, code)\n"
        )
    done = run(
        f"{start}"
        "import tightbatch\n"
        "try:\n"
        "    print('ran', run('import tightbatch; tightbatch.pad([[1]])'))\n"
        "except Exception as error:\n"
        "    print('refused', error)\n"
        "print(tightbatch.pad([[1, 2], [3]]).tolist())\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[[1, 2], [3, 0]]"
    assert done.stdout.startswith(("ran", "refused"))


def test_results_are_owned_writeable_and_contiguous():
    for array in (tb.pad([[1], [2, 3]]), tb.pad([np.arange(3)]), tb.attention_mask([1, 2])):
        assert type(array) is np.ndarray
        assert array.flags.owndata
        assert array.flags.writeable
        assert array.flags.c_contiguous
