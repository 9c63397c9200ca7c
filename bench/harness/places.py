"""Where things are."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
PEERS = BENCH / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# Nothing of this belongs into the repository: some of it is large, and all of it can be made anew.
OUTPUT = TARGET / "bench"
DATA = OUTPUT / "data"
VENV = OUTPUT / "venv"
RESULT = OUTPUT / "result.json"


def say(text: str) -> None:
    """Standard output is for the tables."""
    print(text, file=sys.stderr, flush=True)
