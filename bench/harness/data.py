"""The logs that are shipped: made once, by size and seed, and kept."""

import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

from . import places
from .build import Programs
from .run import call

SEED = 20260302


@dataclass(frozen=True)
class Objects:
    """Log objects, and how much they are."""

    path: Path
    lines: int
    objects: int
    text_bytes: int
    object_bytes: int

    @property
    def file(self) -> Path:
        """The only object."""
        return (
            self.path if self.path.is_file() else next(path for path in sorted(self.path.rglob("*")) if path.is_file())
        )


def objects(programs: Programs, kind: str, lines: int, count: int = 1) -> Objects:
    """Objects as they are delivered."""
    path = directory(f"{kind}-{lines}-{count}")
    return made(
        path, lambda: call([programs.elbbench, "generate", kind, lines, count, SEED, path / "bucket"]), path / "bucket"
    )


def text(programs: Programs, kind: str, lines: int) -> Objects:
    """Plain lines, for a peer whose parsing alone is asked."""
    path = directory(f"{kind}-{lines}-text")
    path.mkdir(parents=True, exist_ok=True)
    return made(
        path, lambda: call([programs.elbbench, "text", kind, lines, SEED, path / "lines.txt"]), path / "lines.txt"
    )


def directory(name: str) -> Path:
    """The generator is a part of the name: when it changes, so do the lines."""
    source = (places.BENCH / "src" / "generate.rs").read_bytes()
    return places.DATA / f"{name}-{SEED}-{zlib.crc32(source):08x}"


def made(path: Path, make, place: Path) -> Objects:
    facts = path / "facts.json"
    if not facts.exists():
        places.say(f"generating {path.name}")
        shutil.rmtree(place, ignore_errors=True)
        text = make()
        facts.write_text(text)
    return Objects(place, **json.loads(facts.read_text()))
