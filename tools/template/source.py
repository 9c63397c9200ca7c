"""What the Rust source says: the variables, the metrics, and the calls of AWS's SDKs."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path

from render import PROJECT


def variables(path):
    """The names in a table VARIABLES."""
    text = (PROJECT / path).read_text()
    table = text[text.index("pub const VARIABLES") :]
    return re.findall(r'\(\s*"([A-Z0-9_]+)",', table[: table.index("\n];")])


SHIPPER_VARIABLES = variables("src/config.rs")
REGISTRY_VARIABLES = variables("registry/src/config.rs")


def constant(path, name):
    return re.search(rf'const {name}: &str = "([^"]+)"', (PROJECT / path).read_text())[1]


NAMESPACE = constant("src/metrics.rs", "NAMESPACE")
DIMENSION = constant("src/metrics.rs", "DIMENSION")
METRICS = re.findall(r'^    \("(\w+)", "\w+"\),$', (PROJECT / "src/metrics.rs").read_text(), re.M)


def seconds(path, name):
    """A Duration of whole minutes or seconds."""
    unit, number = re.search(rf"const {name}: Duration = Duration::from_(\w+)\((\d+)\)", (PROJECT / path).read_text()).groups()
    return int(number) * {"secs": 1, "mins": 60}[unit]


@cache
def operations():
    """Every operation of the SDKs in use: each is a file of its crate's client."""
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"], cwd=PROJECT, check=True, capture_output=True
    )
    found = set()
    for package in json.loads(metadata.stdout)["packages"]:
        if package["name"].startswith("aws-sdk-"):
            found |= {file.stem for file in (Path(package["manifest_path"]).parent / "src/client").glob("*.rs")}
    return found - {"customize"}


def calls():
    """The operations that the source calls, and where."""
    found = {}
    for file in [*PROJECT.glob("src/**/*.rs"), *PROJECT.glob("registry/src/**/*.rs")]:
        code = file.read_text().split("\n#[cfg(test)]\nmod tests {")[0]
        for name in re.findall(r"\.(\w+)\(\)", code):
            if name in operations():
                found.setdefault(name, set()).add(str(file.relative_to(PROJECT)))
    return found
