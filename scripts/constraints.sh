#!/usr/bin/env bash
# Resolve `.[all]` and the dev group in an environment of its own and write constraints.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
# torch is the one version that is chosen by hand: see docs/architecture.md.
"$folder/venv/bin/python" -m pip install --quiet --dry-run --report "$folder/report.json" \
    -c <(echo "torch==${TORCH_VERSION:-2.13.0}") -e '.[all]' --group dev
{
    sed -n '/^#/p' constraints.txt
    "$folder/venv/bin/python" - "$folder/report.json" <<'EOF'
import json
import sys
from pathlib import Path

report = json.loads(Path(sys.argv[1]).read_text())
pins = {
    item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"].split("+")[0]
    for item in report["install"]
}
print("\n".join(f"{name}=={pins[name]}" for name in sorted(pins) if name != "napari-unet"))
EOF
} >"$folder/constraints.txt"
cp "$folder/constraints.txt" constraints.txt
