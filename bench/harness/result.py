"""The results of a run: the medians of each contender. They are stored as JSON, which bench/cost reads."""

import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import paths
from .contenders import Contender


@dataclass(frozen=True)
class Figure:
    """The medians of a contender. Sizes are 0 for a contender without objects."""

    key: str
    title: str
    lines: int
    text_bytes: int
    object_bytes: int
    sample: dict

    def __getitem__(self, name: str) -> float:
        return self.sample[name]

    @property
    def ns_per_line(self) -> float:
        return self["cpu_ns"] / self.lines

    @property
    def mb_per_s(self) -> float:
        """Returns the megabytes of log text per second of CPU time."""
        return self.text_bytes / self["cpu_ns"] * 1_000

    def per_line(self, name: str) -> float:
        """Converts a value that was measured on a sample of request bodies to one log line."""
        return self[name] / self["bytes"] * self.text_bytes / self.lines

    @property
    def rss_mib(self) -> float:
        return self["rss_bytes"] / (1 << 20)


@dataclass(frozen=True)
class Result:
    """All results of one run."""

    made: str
    machine: str
    versions: dict[str, str]
    rounds: int
    minutes: float
    figures: dict[str, Figure]

    @classmethod
    def of(cls, plan: list[Contender], rounds: list[dict[str, dict]], minutes: float) -> "Result":
        figures = {each.key: figure(each, [samples[each.key] for samples in rounds]) for each in plan}
        made = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(made, machine(), versions(), len(rounds), round(minutes, 1), figures)

    @classmethod
    def read(cls, path: Path) -> "Result":
        found = json.loads(path.read_text())
        found["figures"] = {key: Figure(**figure) for key, figure in found["figures"].items()}
        return cls(**found)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def get(self, key: str) -> Figure | None:
        return self.figures.get(key)


def figure(contender: Contender, samples: list[dict]) -> Figure:
    medians = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
    objects = contender.objects
    sizes = (objects.lines, objects.text_bytes, objects.object_bytes) if objects else (0, 0, 0)
    return Figure(contender.key, contender.title, *sizes, medians)


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    pinned = [line for line in (paths.PEERS / "requirements.txt").read_text().splitlines() if "==" in line]
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, cwd=paths.ROOT).stdout.split()[1]
    return {
        "rust": rustc,
        "python": platform.python_version(),
        **dict(line.split("==") for line in pinned),
        "vrl": "0.38.0",
    }
