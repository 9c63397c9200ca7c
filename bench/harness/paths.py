"""Paths of the project and of the output."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
PEERS = BENCH / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# The output is not committed: some files are large, and all of them can be generated again.
OUTPUT = TARGET / "bench"
DATA = OUTPUT / "data"
VENV = OUTPUT / "venv"
RESULT = OUTPUT / "result.json"


def say(text: str) -> None:
    """Prints a progress message to standard error, because standard output has the tables."""
    print(text, file=sys.stderr, flush=True)
