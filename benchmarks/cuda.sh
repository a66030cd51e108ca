#!/usr/bin/env bash
# What has to run on a GPU, for a machine that has Python, torch with CUDA, and no network.
#   benchmarks/cuda.sh pack FOLDER          here: a wheel, and all else that is needed there
#   FOLDER/benchmarks/cuda.sh run SECONDS OUT    there: benchmarks/cuda.py, and the tests marked cuda
# PYTHON names the Python to build for (python3.12) or to run with (python3). OUT gets cuda.json,
# written again after each part of a section, tests.xml, and the output of both. What fails or takes
# too long does not end the rest; the whole takes SECONDS, or little more.
set -uo pipefail

# Beside torch and NumPy, what the tests are run by. Pure Python; NumPy too where it is missing.
TOOLS="pytest pluggy iniconfig packaging pygments hypothesis sortedcontainers"

# Python 3.12 in PATH, which may be a name of pyenv's that leads nowhere, or one of pyenv's.
find_python() {
    local name
    for name in python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python; do
        "$name" -c '' 2>/dev/null && echo "$name" && return
    done
    echo "found no Python 3.12; expected PYTHON=, the one to build for" >&2
    return 1
}

pack() (
    set -e
    python=${PYTHON:-$(find_python)}
    source=$(cd "$(dirname "$0")/.." && pwd)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
    rm -rf "$folder"/{wheels,tests,benchmarks,docs,pyproject.toml}
    mkdir -p "$folder"/{wheels,tests,benchmarks,docs}
    cd "$source"
    mkdir "$work/source" # a build leaves files behind
    cp -r csrc python setup.py pyproject.toml README.md LICENSE "$work/source"
    rm -rf "$work"/source/python/tightbatch/*.so
    "$python" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$folder/wheels" "$work/source"
    # shellcheck disable=SC2086
    "$work/venv/bin/python" -m pip download --quiet --no-deps --only-binary :all: \
        --dest "$folder/wheels" numpy $TOOLS
    cp pyproject.toml "$folder"
    cp docs/benchmarks-gpu.md "$folder/docs"
    cp -r benchmarks/cuda.py benchmarks/cuda.sh benchmarks/gpu "$folder/benchmarks"
    # The tests' helpers, and the tests that have the mark.
    find tests -maxdepth 1 -name '*.py' ! -name 'test_*' -exec cp {} "$folder/tests" \;
    grep -lE 'mark\.cuda|amp_devices\(' tests/test_*.py | xargs -I{} cp {} "$folder/tests"
    find "$folder" -name __pycache__ -prune -exec rm -rf {} +
    du -sh "$folder"
)

# Of a tool that Python has not, the wheel; into a folder of its own, so that nothing there changes.
install() {
    local wheels=("$folder"/wheels/tightbatch-*.whl) name
    for name in numpy $TOOLS; do
        "$python" -c "import $name" 2>/dev/null || wheels+=("$folder/wheels/$name"-*.whl)
    done
    echo "installs ${wheels[*]##*/}"
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --disable-pip-version-check --upgrade --target "$site" "${wheels[@]}" && return
    for name in "${wheels[@]}"; do # a Python without pip: a wheel is an archive
        "$python" -m zipfile -e "$name" "$site" || return
    done
}

left() { echo $((begin + seconds - $(date +%s))); }

run() {
    python=${PYTHON:-python3} folder=$(cd "$(dirname "$0")/.." && pwd)
    seconds=$1 begin=$(date +%s)
    mkdir -p "$2"
    out=$(cd "$2" && pwd) site=$(mktemp -d)
    # What is compiled there goes with the folder.
    export PYTHONPATH=$site PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR=$site/inductor
    export TRITON_CACHE_DIR=$site/triton PYTHONDONTWRITEBYTECODE=1
    cd "$folder" || return
    install 2>&1 | tee "$out/install.log"
    "$python" -c 'import tightbatch, sys; print("tightbatch", tightbatch.__file__, sys.version)' ||
        echo "NOT INSTALLED"
    # The tests get a quarter of the time, at the end.
    timeout -k 10 $(($(left) + 20)) "$python" benchmarks/cuda.py --seconds $(($(left) * 3 / 4)) \
        --json "$out/cuda.json" ${CUDA_OPTIONS:-} 2>&1 | tee "$out/cuda.log"
    echo "benchmarks: $(left) s are left"
    # Another torch warns of other things.
    timeout -k 10 $(($(left) > 20 ? $(left) : 20)) "$python" -m pytest -q -p no:cacheprovider \
        -m cuda -o addopts=-ra -o filterwarnings=default --junitxml "$out/tests.xml" tests 2>&1 |
        tee "$out/tests.log"
    echo "tests: ended with ${PIPESTATUS[0]}, $(left) s are left"
    rm -rf "$site"
}

case ${1:-} in
    pack) pack "${2:?expected a folder}" ;;
    run) run "${2:?expected seconds}" "${3:?expected a folder for the results}" ;;
    *) sed -n '2,7s/^# //p' "$0"; exit 2 ;;
esac
