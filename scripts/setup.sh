#!/usr/bin/env bash
# Make everything that a target needs: Debian packages, .venv, the project itself.
#
#   scripts/setup.sh run       what the program needs
#   scripts/setup.sh dev       that and the tools for tests, lint and documentation
#   scripts/setup.sh window    the Debian packages that a Qt window needs
#   scripts/setup.sh xvfb      those and a virtual display
#
# Several may be asked for at once: all packages that are missing are then named together.
# Quick when nothing changed; safe to interrupt and to start again. Exit code 2: something is
# missing that only the administrator can install; the line to type is printed.
#
# PYTHON=...            the interpreter to use instead of the first one found that is new enough
# TORCH_BUILD=default   take the build of torch that pip prefers, CUDA libraries included
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CPU_TORCH_INDEX="https://download.pytorch.org/whl/cpu"
# What Qt's xcb platform plugin and Mesa's software OpenGL load at run time.
readonly WINDOW_PACKAGES=(
    libegl1 libgl1 libgl1-mesa-dri libxkbcommon-x11-0 libdbus-1-3 libxcb-cursor0 libxcb-icccm4
    libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0
    libxcb-xinerama0 libfontconfig1
)
export PIP_DISABLE_PIP_VERSION_CHECK=1
# A user's own pip settings must not send packages elsewhere than into .venv.
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 2
}

# ---------------------------------------------------------------------------- Debian packages

need_packages() {
    if ! command -v dpkg-query >/dev/null; then
        return 0 # Not Debian: the packages have other names, and Qt says what it misses.
    fi
    local missing=() package
    # QtCore loads it; its package is called differently from Debian 13 on, so ask for the library.
    if [[ " $* " == *" libegl1 "* ]] && ! /sbin/ldconfig -p | grep -q 'libgthread-2\.0\.so\.0'; then
        missing+=(libglib2.0-0)
    fi
    local installed
    installed="$(dpkg-query -W -f '${Package}=${db:Status-Status}\n' "$@" 2>/dev/null || true)"
    for package in "$@"; do
        grep -q -x -F "$package=installed" <<<"$installed" || missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        return 0
    fi
    if [[ "$(id -u)" != 0 ]]; then
        say "These Debian packages are missing. Install them, then start again:"
        fail "    sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    say "Installing Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}"; } \
        >/dev/null || fail "apt-get could not install: ${missing[*]}"
}

# ---------------------------------------------------------------------------- Python

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if is_new_enough "$candidate"; then
            printf '%s' "$candidate"
            return 0
        fi
    done
    return 1
}

has_venv_module() {
    "$1" -c 'import venv, ensurepip' 2>/dev/null
}

# The Debian packages that are missing to make a virtual environment.
python_packages() {
    local python
    if python="$(find_python)"; then
        # Debian keeps venv's own pip in a package of its own.
        has_venv_module "$python" \
            || "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    elif [[ -z "${PYTHON:-}" ]]; then
        echo python3 python3-venv
    fi
}

# ---------------------------------------------------------------------------- .venv

# The folder is part of it: a virtual environment that was moved does not work.
fingerprint() { cat pyproject.toml constraints.txt <(pwd) | cksum; }

is_ready() {
    local wanted
    wanted="$(fingerprint)"
    [[ -x .venv/bin/python && ! -e .venv/.unfinished ]] || return 1
    [[ "$(cat .venv/.ready-dev 2>/dev/null)" == "$wanted" ]] && return 0
    [[ "$1" == run && "$(cat .venv/.ready-run 2>/dev/null)" == "$wanted" ]]
}

# An installation that was interrupted may have left packages half written.
is_usable() {
    [[ ! -e .venv/.unfinished ]] && is_new_enough .venv/bin/python \
        && .venv/bin/python -m pip --version &>/dev/null
}

make_venv() {
    local python
    if [[ -e .venv ]] && ! is_usable; then
        say "The environment in .venv is not usable; making it anew."
        rm -rf .venv
    fi
    if [[ ! -e .venv ]]; then
        python="$(find_python)" \
            || fail "${PYTHON:-Python 3.11 or newer} was not found, or is older than Python 3.11."
        has_venv_module "$python" \
            || fail "$python has no venv module; install it, then start again."
        say "Making the environment in .venv ..."
        mkdir .venv
        touch .venv/.unfinished
        "$python" -m venv .venv
    fi
    touch .venv/.unfinished
}

# Twice quiet: errors only; pip's warnings are about how a machine is set up, which is not ours.
# Not compiled: that would take longer than all the rest, for modules most of which nobody imports;
# Python compiles the others when it meets them first.
pip_install() {
    .venv/bin/python -m pip install --no-compile --quiet --quiet "$@" || {
        say "pip failed; this tells more: .venv/bin/python -m pip install $*"
        exit 1
    }
}

# On Linux, pip may prefer a build of torch that brings gigabytes of CUDA libraries; so look first
# what it would bring, and take the processor's build instead if it is that one.
install_torch() {
    if .venv/bin/python -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
        return 0 # A wrong version is put right with everything else.
    fi
    say "Installing torch ..."
    local plan
    plan="$(.venv/bin/python -m pip install --dry-run -c constraints.txt torch 2>/dev/null)" \
        || fail "pip finds no torch for this Python; is the package index reachable?"
    if [[ "${TORCH_BUILD:-cpu}" != default ]] && grep -q -E 'nvidia|cuda' <<<"$plan"; then
        pip_install --index-url "$CPU_TORCH_INDEX" -c constraints.txt torch
    else
        pip_install -c constraints.txt torch
    fi
}

install_project() {
    # Dependency groups (--group) came with pip 25.1; a fresh environment of Python 3.11 has 23.
    pip_install --upgrade 'pip>=25.1'
    install_torch
    say "Installing napari-unet and what it needs (a minute or two the first time) ..."
    if [[ "$1" == dev ]]; then
        pip_install -c constraints.txt -e '.[all]' --group dev
    else
        pip_install -c constraints.txt -e '.[all]'
    fi
    fingerprint >".venv/.ready-$1"
    rm .venv/.unfinished
}

need_environment() {
    is_ready "$1" && return 0
    # Two of these at once would write into the same environment; the second one waits.
    exec 9<scripts/setup.sh
    if command -v flock >/dev/null; then
        flock 9
    fi
    is_ready "$1" && return 0
    make_venv
    install_project "$1"
}

profile="" packages=()
for what in "$@"; do
    case "$what" in
        run | dev) profile="$what" ;;
        window) packages+=("${WINDOW_PACKAGES[@]}") ;;
        xvfb) packages+=(xvfb xauth "${WINDOW_PACKAGES[@]}") ;;
        *) fail "scripts/setup.sh takes run, dev, window and xvfb, not $what." ;;
    esac
done
if [[ -n "$profile" ]] && ! is_ready "$profile" && ! is_usable; then
    read -r -a for_python <<<"$(python_packages)"
    packages=("${for_python[@]}" "${packages[@]}")
fi
if ((${#packages[@]})); then
    need_packages "${packages[@]}"
fi
if [[ -n "$profile" ]]; then
    need_environment "$profile"
fi
