#!/usr/bin/env bash
# Run every check that reads the code without running it; all of them, even if one fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

failed=()
check() {
    echo "== $*"
    ".venv/bin/$1" "${@:2}" || failed+=("$1")
}

check ruff check .
check ruff format --check .
check flake8
check mypy
check lint-imports
if ((${#failed[@]})); then
    echo "Lint failed: ${failed[*]}" >&2
    exit 1
fi
