"""Rules about the project itself: what may depend on what, examples that run, imports."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tightbatch as tb

ROOT = Path(__file__).parent.parent
CORE = ROOT / "csrc" / "core"
BINDING = ROOT / "csrc" / "py"
MODULES = [
    "padding",
    "ragged",
    "dataset",
    "masks",
    "collate.batch",
    "collate.padded",
    "collate.padding_free",
    "sampling.sampler",
    "sampling.packing",
    "sampling.buckets",
    "half.conversion",
    "half.report",
    "amp.grad_scaler",
    "amp.precision",
    "amp.step",
    "huggingface.padding",
    "huggingface.language_modeling",
    "huggingface.flattening",
]
# What examples use that a user of these modules has.
NEEDED = {
    "ragged": "pyarrow",
    "dataset": "datasets",
    "collate": "torch",
    "sampling.packing": "datasets",
    "half.conversion": "ml_dtypes",
    "amp": "torch",
    "huggingface": "torch",
}


def includes(path):
    return re.findall(r'^#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def run(code, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=120
    )


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
    }
    own = {str(header.relative_to(ROOT / "csrc")) for header in CORE.rglob("*.h")}
    assert set(includes(path)) <= standard | own


@pytest.mark.parametrize("path", sorted(BINDING.rglob("*.c")), ids=lambda p: p.name)
def test_numpy_and_python_come_through_one_header(path):
    assert not {name for name in includes(path) if name.startswith(("Python", "numpy"))}


def test_names_that_the_linker_sees_have_the_prefix():
    hidden = re.compile(r"^(TARGET )?static|^INLINE")
    for path in [*CORE.rglob("*.c"), *BINDING.rglob("*.c")]:
        for name in re.findall(r"^([a-z]\w*)\(", path.read_text(), re.MULTILINE):
            before = path.read_text().split(f"\n{name}(")[0].rsplit("\n", 1)[-1]
            assert name.startswith(("tb_", "PyInit_")) or hidden.search(before), (path, name)


def test_files_stay_readable():
    for path in [*ROOT.glob("csrc/**/*.[ch]"), *ROOT.glob("python/**/*.py")]:
        assert len(path.read_text().splitlines()) <= 520, path


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    pytest.importorskip(NEEDED.get(name) or NEEDED.get(name.split(".")[0], "numpy"))
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
    import tightbatch.huggingface

    for name in tightbatch.huggingface.__all__:
        doc = getattr(tightbatch.huggingface, name).__doc__
        assert ">>> " in doc
        assert "Raises" in doc


def test_mixed_precision_is_documented():
    pytest.importorskip("torch")
    import tightbatch.amp as amp

    for name in amp.__all__:
        doc = getattr(amp, name).__doc__
        assert ">>> " in doc or name == "Precision"
        assert "Raises" in doc or name == "Precision"


def test_examples_in_the_readme_run():
    text = re.sub(r"^```.*$", "", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", None, 0)
    failed, attempted = doctest.DocTestRunner().run(test)
    assert attempted > 0
    assert failed == 0


@pytest.mark.parametrize("name", [n for n in tb.__all__ if callable(getattr(tb, n))])
def test_what_is_public_is_documented(name):
    doc = getattr(tb, name).__doc__
    assert doc
    assert ">>> " in doc
    if name not in ("Batch", "ConversionCounts", "HalfReport", "Packing"):
        assert "Raises" in doc


def test_importing_imports_numpy_and_nothing_else_of_others():
    code = (
        "import sys, numpy; before = set(sys.modules); import tightbatch;"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names)))"
    )
    done = run(code, "-W", "error")
    assert done.stdout.strip() == "['numpy', 'tightbatch']", done.stderr


def test_the_versions_agree():
    from importlib.metadata import version

    assert tb.__version__ == version("tightbatch")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="another module offers them there")
def test_hostile_45_a_subinterpreter_is_refused_or_works():
    """NumPy decides: whatever it says, the process goes on."""
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    done = run(
        f"import {name} as s\n"
        "import tightbatch\n"
        "i = s.create()\n"
        "try:\n"
        "    s.run_string(i, 'import tightbatch; tightbatch.pad([[1]])')\n"
        "except Exception as error:\n"
        "    print('refused', error)\n"
        "print(tightbatch.pad([[1, 2], [3]]).tolist())\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[[1, 2], [3, 0]]"


def test_results_are_owned_writeable_and_contiguous():
    for array in (tb.pad([[1], [2, 3]]), tb.pad([np.arange(3)]), tb.attention_mask([1, 2])):
        assert type(array) is np.ndarray
        assert array.flags.owndata
        assert array.flags.writeable
        assert array.flags.c_contiguous
