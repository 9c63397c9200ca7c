"""The generated logs. They are generated once for each size and seed, and kept."""

import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

from . import paths
from .build import Programs
from .run import call

SEED = 20260302


@dataclass(frozen=True)
class Objects:
    """Log objects and their sizes."""

    path: Path
    lines: int
    objects: int
    text_bytes: int
    object_bytes: int

    @property
    def file(self) -> Path:
        """Returns the first object."""
        return (
            self.path if self.path.is_file() else next(path for path in sorted(self.path.rglob("*")) if path.is_file())
        )


def objects(programs: Programs, kind: str, lines: int, count: int = 1) -> Objects:
    """Generates objects as AWS delivers them."""
    path = directory(f"{kind}-{lines}-{count}")
    return generated(
        path, lambda: call([programs.elbbench, "generate", kind, lines, count, SEED, path / "bucket"]), path / "bucket"
    )


def text(programs: Programs, kind: str, lines: int) -> Objects:
    """Generates plain lines, for a peer of which only the parsing is measured."""
    path = directory(f"{kind}-{lines}-text")
    path.mkdir(parents=True, exist_ok=True)
    return generated(
        path, lambda: call([programs.elbbench, "text", kind, lines, SEED, path / "lines.txt"]), path / "lines.txt"
    )


def directory(name: str) -> Path:
    """Returns the directory of generated data. Its name depends on the source of the generator, because the lines do."""
    sources = sorted((paths.BENCH / "src" / "generate").glob("*.rs"))
    source = b"".join(path.read_bytes() for path in sources)
    return paths.DATA / f"{name}-{SEED}-{zlib.crc32(source):08x}"


def generated(path: Path, generate, content: Path) -> Objects:
    facts = path / "facts.json"
    if not facts.exists():
        paths.say(f"generating {path.name}")
        shutil.rmtree(content, ignore_errors=True)
        text = generate()
        facts.write_text(text)
    return Objects(content, **json.loads(facts.read_text()))
