#!/usr/bin/env bash
# Set everything up, lint, and run the tests in a real window on a virtual display. Arguments go to
# pytest; without any they run two by two, each on a display of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ "$(uname)" == Linux ]]; then
    scripts/setup.sh dev xvfb
    if ! command -v xvfb-run >/dev/null; then
        echo "xvfb-run was not found; install Xvfb, then start again." >&2
        exit 2
    fi
else
    scripts/setup.sh dev
fi
# Packages are not compiled when they are installed (scripts/setup.sh), so Python has to keep what
# it compiles.
unset PYTHONDONTWRITEBYTECODE
scripts/lint.sh

# The windows are to be drawn on the virtual display, whatever the user's own session says.
unset WAYLAND_DISPLAY QT_QPA_PLATFORM
if (($# == 0)); then
    set -- -n 2 --dist loadgroup
    export OMP_NUM_THREADS=1 # each of the two has a core
fi
if [[ "$(uname)" == Linux ]]; then
    exec xvfb-run -a -s "-screen 0 1400x900x24" .venv/bin/python -m pytest "$@"
fi
exec .venv/bin/python -m pytest "$@"
