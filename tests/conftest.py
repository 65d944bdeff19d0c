"""What tests in more than one folder need."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

_WINDOWS = Path(__file__).parent / "viewer"
_OWN_DISPLAY = pytest.StashKey[bool]()


def pytest_configure(config):
    """Give each process of tests that run side by side a display: a display has one focus."""
    is_worker = sys.platform == "linux" and hasattr(config, "workerinput")
    if not is_worker or not (server := shutil.which("Xvfb")):
        return
    told, tells = os.pipe()
    command = [server, "-displayfd", str(tells), "-screen", "0", "1400x900x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=[tells], stderr=subprocess.DEVNULL)
    config.add_cleanup(process.wait)
    config.add_cleanup(process.terminate)  # goes first
    os.close(tells)
    with os.fdopen(told) as file:
        number = file.readline().strip()
    if number:
        os.environ["DISPLAY"] = f":{number}"
        config.stash[_OWN_DISPLAY] = True


def pytest_collection_modifyitems(config, items):
    """Where tests run side by side on one display, those with windows stay together."""
    if config.stash.get(_OWN_DISPLAY, False):
        return
    for item in items:
        if _WINDOWS in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("windows"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Draw the same weights in every run, in fixtures of any scope, too.

    Of what networks with random weights say, one in fifty misleads whoever believes it.
    """
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_tests(tmp_path_factory):
    """Keep what is measured here out of the user's cache folder; subprocesses inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_UNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def run():
    """Run the command line with these arguments, as in a shell."""
    # Here and not above: tests of the pure rooms do not load the command line.
    from napari_unet.cli import cli

    def invoke(*args):
        return CliRunner().invoke(cli, [str(arg) for arg in args])

    return invoke
