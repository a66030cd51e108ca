"""Changes one small thing in the code, runs the tests, and asks whether any of them failed.

    python tests/mutate.py [csrc/core | csrc/py | python/tightbatch] [--count 100] [--seed 0]

A room is held to FOUND of its changes found. The same seed gives about the same changes as long as
the lines they change stay. Works in a copy of the checkout; needs what the tests need, and a
compiler.
"""

import argparse
import contextlib
import gc
import importlib.util
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import mutations
from mutated_families import EQUIVALENT, ROOMS, families_of, family_of

ROOT = Path(__file__).resolve().parent.parent
COPIED = "csrc python tests docs examples benchmarks setup.py pyproject.toml README.md".split()
# Imported once, before the tests' processes part from this one: these take ten seconds.
SLOW_IMPORTS = (
    "numpy torch transformers pyarrow pandas polars datasets ml_dtypes nanoarrow pytest".split()
)
FOUND = 0.9
TEST_SECONDS = 120  # a test that takes longer hangs; none takes a third of it
BYTES = 6 << 30  # a test process with more is ended: a size may have been changed
# No debug information, so that the same code is the same object byte for byte. What compilers
# warn of here is no change: nobody would commit it.
CFLAGS = "-g0 -MMD".split() + [
    f"-Werror={name}"
    for name in ("incompatible-pointer-types", "int-conversion", "implicit", "return-type")
]


def run(command, folder, seconds=None):
    """The exit code and what was printed; -SIGKILL where it took too long."""
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            command, cwd=folder, stdout=printed, stderr=printed, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        printed.seek(0)
        return code, printed.read().decode(errors="replace")


class Build:
    """The extension and the C tests of a copy, with the commands that setup.py uses."""

    def __init__(self, folder):
        self.folder = folder
        os.environ["CFLAGS"] = " ".join(CFLAGS)
        command = "setup.py build_ext --inplace --force".split()
        code, printed = run([sys.executable, *command], folder)
        if code:
            sys.exit(f"the code does not compile:\n{printed}")
        lines = [shlex.split(line) for line in printed.splitlines() if " -o " in line]
        self.link = next(line for line in lines if "-c" not in line)
        self.compiler = shlex.split(os.environ.get("CC", "")) or self.link[:1]
        self.extension = next((folder / "python/tightbatch").glob("_core.*.so"))
        self.link[self.link.index("-o") + 1] = str(self.extension)
        self.compile = {line[line.index("-c") + 1]: line for line in lines if "-c" in line}
        self.users = {}  # of each file: the sources that need it
        for source in self.compile:
            needs = (folder / self.object_of(source)).with_suffix(".d").read_text()
            for need in needs.replace("\\\n", " ").split()[1:]:
                self.users.setdefault(need, []).append(source)
        self.core = [self.object_of(s) for s in self.compile if s.startswith("csrc/core/")]
        self.c_tests = sorted(p.stem for p in (folder / "tests/c").glob("test_*.c"))
        for test in self.c_tests:
            command = [*self.compiler, *"-std=c11 -O1 -Icsrc -c".split(), f"tests/c/{test}.c"]
            run([*command, "-o", f"build/{test}.o"], folder)

    def object_of(self, source):
        command = self.compile[source]
        return command[command.index("-o") + 1]

    @contextlib.contextmanager
    def rebuilt(self, changed):
        """Yields whether all compiles and something is other than before, which comes back."""
        before, compiles = {self.extension: self.extension.read_bytes()}, True
        for source in self.users.get(changed, []):
            path = self.folder / self.object_of(source)
            before[path] = path.read_bytes()
            compiles = compiles and run(self.compile[source], self.folder)[0] == 0
        other = compiles and any(path.read_bytes() != was for path, was in before.items())
        if other:
            run(self.link, self.folder)
        yield other
        for path, was in before.items():
            path.unlink(missing_ok=True)  # a process may still have the other one in memory
            path.write_bytes(was)

    def failing_c_test(self):
        for test in self.c_tests:
            objects = [f"build/{test}.o", *self.core]
            code, printed = run(
                [*self.compiler, *objects, "-o", f"build/{test}", "-lm"], self.folder
            )
            if code == 0:
                code, printed = run([f"build/{test}"], self.folder, TEST_SECONDS)
            if code:
                lines = printed.splitlines() or ["crashed or hung"]
                return f"tests/c/{test}.c: {lines[0]}"
        return None

    def failing_sanitized_c_test(self):
        """The C tests as .ci/run has them: make compiles again what has changed."""
        # With the Makefile's own CFLAGS, which have the sanitizers.
        command = "env -u CFLAGS make -s -C tests/c check BUILD=../../build/sanitized".split()
        command.append(f"CC={shlex.join(self.compiler)}")
        code, printed = run(command, self.folder, 5 * TEST_SECONDS)
        lines = [line for line in printed.splitlines() if "Error" in line or "error:" in line]
        return f"make -C tests/c check: {lines[0] if lines else code}" if code else None


class Watch:
    """A plugin of pytest: ends the process, also one that hangs in C, and tells what failed."""

    def __init__(self, told):
        self.told = told

    def pytest_runtest_logstart(self, nodeid):
        signal.alarm(TEST_SECONDS)
        self.told.write(f"runs {nodeid}\n")
        self.told.flush()

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.told.write(f"fails {report.nodeid}\n")
            self.told.flush()

    def pytest_collectreport(self, report):
        if report.failed:
            self.told.write(f"fails {report.nodeid}\n")
            self.told.flush()


def run_tests(folder, tests, *options):
    """The tests that failed in a process of their own; the one that ended it, if one did."""
    with tempfile.TemporaryFile("w+") as told:
        child = os.fork()
        if child == 0:
            try:
                code = run_pytest(folder, [*options, *tests], told)
            except BaseException:
                traceback.print_exc()
                code = 70
            os._exit(code)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        told.seek(0)
        lines = told.read().splitlines()
    failed = [line[6:] for line in lines if line.startswith("fails ")]
    if not failed and status != 0:
        last = lines[-1][5:] if lines else "import"
        failed = [f"{last} (ended with status {status})"]
    return failed


def run_pytest(folder, arguments, told):
    """The exit code of pytest, in a process that may end at any time."""
    os.setsid()
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(2 * TEST_SECONDS)
    os.environ["PYTHONPATH"] = str(folder / "python")
    sys.path[:] = [str(folder / "python"), *(p for p in sys.path if p != str(ROOT / "tests"))]
    quiet = (
        "-q -p no:cacheprovider -p no:timeout -p no:xdist --hypothesis-seed=0 -o addopts=".split()
    )
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    pytest = importlib.import_module("pytest")
    with contextlib.redirect_stderr(sys.stdout):
        return int(pytest.main([*quiet, *arguments], [Watch(told)]))


def first_failure(build, path, broken):
    """The name of a test that fails with a change in `path`, or None."""
    if path.startswith("csrc/core/") and (failure := build.failing_c_test()):
        return failure
    failed = run_tests(
        build.folder, family_of(path), "-x", *(f"--deselect={name}" for name in broken)
    )
    if not failed and path.startswith("csrc/core/"):
        return build.failing_sanitized_c_test()
    return failed[0] if failed else None


def write(path, text, clock):
    path.write_text(text)
    os.utime(path, (clock, clock))  # Python asks it whether its byte code is older


def check_room(build, room, count, seed, broken, only):
    """Prints each change and whether it was found; the share found."""
    folder = build.folder
    changes = mutations.all_changes(folder, room)
    drawn = mutations.in_random_order(changes, f"{room} {seed}", folder)
    found = missed = equivalent = 0
    clock = 2_000_000_000
    for change in drawn:
        if found + missed == count:
            break
        path = folder / change.path
        original = path.read_text()
        if only and not any(text in change.describe(original) for text in only):
            continue
        if (change.path, change.old_line(original), change.new_line(original)) in EQUIVALENT:
            equivalent += 1
            continue
        begin = time.monotonic()
        clock += 10
        write(path, change.apply(original), clock)
        is_c = change.path.startswith("csrc/")
        with build.rebuilt(change.path) as other:
            if other if is_c else change.is_other_code(original):
                failure = first_failure(build, change.path, broken)
                found += failure is not None
                missed += failure is None
                print(
                    f"{'found ' if failure else 'MISSED'} {change.describe(original)}"
                    f"  [{failure or 'no test'}, {time.monotonic() - begin:.0f} s]",
                    flush=True,
                )
        clock += 10
        write(path, original, clock)
    share = found / max(found + missed, 1)
    print(
        f"{room}: {found} of {found + missed} changes found, {share:.0%} (seed {seed}, "
        f"{len(changes)} possible changes, {equivalent} known to change nothing left out)"
    )
    return share


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("room", nargs="*", choices=[*ROOMS, []], default=list(ROOMS))
    parser.add_argument("--count", type=int, default=100, help="changes of each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", action="append", help="the changes whose description has this text, or another"
    )
    parser.add_argument(
        "--trust", action="store_true", help="do not run the tests without a change"
    )
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in SLOW_IMPORTS:
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # not looked at again by each process
    with tempfile.TemporaryDirectory(prefix="tightbatch-mutate-") as temporary:
        folder = Path(temporary)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            ignored = {"ignore": shutil.ignore_patterns("build", "__pycache__", "*.so", ".*")}
            copy(ROOT / name, folder / name, **(ignored if copy is shutil.copytree else {}))
        build = Build(folder)
        broken = []
        if not given.trust:
            if failure := build.failing_c_test() or build.failing_sanitized_c_test():
                sys.exit(f"fails without a change: {failure}")
            changed = [c.path for room in given.room for c in mutations.all_changes(folder, room)]
            broken = run_tests(folder, families_of(changed))
            for name in broken:
                print(f"fails without a change, and is left out: {name}", flush=True)
        shares = [
            check_room(build, room, given.count, given.seed, broken, given.only)
            for room in given.room
        ]
    return min(shares) < FOUND


if __name__ == "__main__":
    sys.exit(main())
