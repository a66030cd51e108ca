"""Build of the C extension; everything else is in pyproject.toml.

Environment switches (each "1" to turn on):

TIGHTBATCH_DEBUG     -O0 -g, assertions on
TIGHTBATCH_SANITIZE  AddressSanitizer and UndefinedBehaviorSanitizer
TIGHTBATCH_COVERAGE  gcov instrumentation
TIGHTBATCH_WERROR    the project's warning flags, as errors
"""

import os
import sys
from glob import glob

import numpy
from setuptools import Extension, setup

WARNINGS = (
    "-Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes "
    "-Wundef -Wvla -Wcast-qual -Werror"
).split()


def switch(name: str) -> bool:
    return os.environ.get(f"TIGHTBATCH_{name}", "0") not in ("", "0")


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker flags for this platform and these switches."""
    if sys.platform == "win32":
        return ["/O2", "/std:c11"], []
    compile_args, link_args = ["-std=c11", "-O3", "-fvisibility=hidden"], []
    if "-g" not in os.environ.get("CFLAGS", "").split():
        # Python's own flags have -g, which makes the wheel four times as large.
        compile_args.append("-g0")
    if switch("DEBUG"):
        compile_args += ["-O0", "-g", "-UNDEBUG"]
    if switch("SANITIZE"):
        sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        compile_args += [*sanitize, "-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG"]
        link_args += sanitize
    if switch("COVERAGE"):
        compile_args += ["-O0", "-g", "--coverage"]
        link_args += ["--coverage"]
    if switch("WERROR"):
        # Other projects' headers are not ours to keep clean: found as system headers.
        from sysconfig import get_paths

        headers = [numpy.get_include(), get_paths()["include"]]
        compile_args += WARNINGS + [f"-isystem{path}" for path in headers]
    return compile_args, link_args


compile_args, link_args = flags()
setup(
    ext_modules=[
        Extension(
            "tightbatch._core",
            sources=sorted(glob("csrc/**/*.c", recursive=True)),
            depends=sorted(glob("csrc/**/*.h", recursive=True)),
            include_dirs=["csrc"] + ([] if switch("WERROR") else [numpy.get_include()]),
            define_macros=[
                ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
                ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
            ],
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
    ]
)
