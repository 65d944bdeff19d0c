"""Set-up decides right what to install; the interpreter, pip and Debian's tools are stand-ins."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripts are for a Unix shell")

# Notes down what it is asked to do; a virtual environment that it makes holds itself.
INTERPRETER = """#!/usr/bin/env bash
echo "$*" >>"{log}"
case "$*" in
    *'version("torch")'*) exit 1 ;;
    *--dry-run*) echo "Would install {torch_brings} torch-2.13.0" ;;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"{fails_on}"*) exit 1 ;;
esac
"""


class Checkout:
    """A copy of the scripts in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder / "a checkout"  # with a space
        self.log = folder / "log"
        self.bin = folder / "bin"
        self.bin.mkdir()
        shutil.copytree(ROOT / "scripts", self.folder / "scripts")
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder)
        self.tool("dpkg-query", "exit 0")
        self.interpreter()

    def tool(self, name, script):
        path = self.bin / name
        path.write_text(script if script.startswith("#!") else f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def interpreter(self, torch_brings="", fails_on="never"):
        script = INTERPRETER.format(log=self.log, torch_brings=torch_brings, fails_on=fails_on)
        self.tool("python-stand-in", script)

    def setup(self, *what, **environment):
        """Run the set-up from another folder; return the result and what Python was asked to do."""
        self.log.write_text("")
        done = subprocess.run(
            [self.folder / "scripts" / "setup.sh", *what],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={
                **os.environ,
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "PYTHON": "python-stand-in",
                **environment,
            },
        )
        lines = self.log.read_text().splitlines()
        return done, [line for line in lines if "pip install" in line or "venv .venv" in line]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_first_run_installs_in_order(checkout):
    done, asked = checkout.setup("dev")
    assert done.returncode == 0, done.stderr
    assert asked[0] == "-m venv .venv"
    assert "pip>=" in asked[1]
    assert asked[-2].endswith("-c constraints.txt torch")
    assert asked[-1].endswith("-c constraints.txt -e .[all] --group dev")
    assert not any("--index-url" in line for line in asked)


def test_second_run_does_nothing(checkout):
    checkout.setup("dev")
    for what in ("dev", "run"):
        done, asked = checkout.setup(what)
        assert done.returncode == 0
        assert (asked, done.stderr) == ([], "")


def test_run_alone_leaves_out_the_tools(checkout):
    _, asked = checkout.setup("run")
    assert not any("--group" in line for line in asked)
    _, asked = checkout.setup("dev")
    assert any("--group dev" in line for line in asked)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_into_the_same_environment(checkout, name):
    checkout.setup("dev")
    with (checkout.folder / name).open("a") as file:
        file.write("# changed\n")
    _, asked = checkout.setup("dev")
    assert "-m venv .venv" not in asked
    assert any("-e .[all]" in line for line in asked)


def test_gigabytes_of_cuda_are_not_drawn(checkout):
    checkout.interpreter(torch_brings="nvidia-cublas-13.0 triton-3.6")
    _, asked = checkout.setup("run")
    assert any("--index-url" in line and line.endswith("torch") for line in asked)
    shutil.rmtree(checkout.folder / ".venv")
    _, asked = checkout.setup("run", TORCH_BUILD="default")
    assert not any("--index-url" in line for line in asked)


def test_interrupted_installation_begins_again(checkout):
    checkout.interpreter(fails_on="-e .[all]")
    done, _ = checkout.setup("dev")
    assert done.returncode == 1
    assert "pip failed" in done.stderr
    checkout.interpreter()
    done, asked = checkout.setup("dev")
    assert done.returncode == 0, done.stderr
    assert "-m venv .venv" in asked


def test_half_made_environment_is_made_anew(checkout):
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    done, asked = checkout.setup("run")
    assert done.returncode == 0, done.stderr
    assert "-m venv .venv" in asked


def test_a_user_gets_the_line_to_type(checkout):
    checkout.tool("id", "echo 1000")
    done, asked = checkout.setup("run", "xvfb")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "sudo apt-get install" in line
    assert {"xvfb", "xauth", "libegl1", "libxcb-cursor0"} <= set(line.split())
    assert asked == []


def test_packages_that_are_there_are_not_asked_for(checkout):
    checkout.tool("id", "echo 1000")
    everything = 'for name in "$@"; do echo "$name=installed"; done'
    checkout.tool("dpkg-query", everything)
    checkout.tool("apt-get", "exit 1")
    done, _ = checkout.setup("xvfb")
    # QtCore's own library is asked for by its file name, which no stand-in provides.
    assert "libegl1" not in done.stderr


@pytest.mark.parametrize("python", ["/bin/false", "no-such-python"])
def test_python_that_will_not_do(checkout, python):
    done, _ = checkout.setup("run", PYTHON=python)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert python in done.stderr


def test_unknown_word(checkout):
    done, _ = checkout.setup("everything")
    assert done.returncode == 2


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_works_from_another_folder(checkout, tmp_path):
    done = subprocess.run(
        ["make", "-f", checkout.folder / "Makefile"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    for target in ("run", "test", "lint", "docs", "help"):
        assert f"make {target} " in done.stdout
