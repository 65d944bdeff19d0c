#!/usr/bin/env bash
# Open napari on a sample image, or on the image given; without a display do the same job in the
# terminal.
set -euo pipefail
here="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Packages are not compiled when they are installed (scripts/setup.sh), so Python has to keep what
# it compiles.
unset PYTHONDONTWRITEBYTECODE

has_display() {
    [[ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" || "$(uname)" == Darwin ]]
}

if has_display; then
    scripts/setup.sh run window
    python="$PWD/.venv/bin/python"
    cd "$here" # a file name that was given is relative to where the command was typed
    exec "$python" -m napari_unet.viewer "$@"
fi

scripts/setup.sh run
echo "There is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set), so no window opens."
echo "Doing the same job without one: sample image, strokes, fine-tune, predict, save."
exec .venv/bin/napari-unet demo --output output/demo
