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
    return re.findall(r'\bname: "([A-Z0-9_]+)"', table[: table.index("\n];")])


SHIPPER_VARIABLES = variables("src/config/variables.rs")
REGISTRY_VARIABLES = variables("registry/src/config.rs")


def constant(path, name):
    return re.search(rf'const {name}: &str = "([^"]+)"', (PROJECT / path).read_text())[1]


NAMESPACE = constant("src/emf.rs", "NAMESPACE")
DIMENSION = constant("src/emf.rs", "DIMENSION")
# Those of the counters, and those of the object as a whole.
METRICS = re.findall(r'=> \("(\w+)", "\w+"\);$', (PROJECT / "src/ledger/counts.rs").read_text(), re.M)
METRICS += re.findall(r'^ +\("(\w+)", "\w+"\),$', (PROJECT / "src/emf.rs").read_text(), re.M)


def seconds(path, name):
    """A Duration of whole minutes or seconds."""
    unit, number = re.search(rf"const {name}: Duration = Duration::from_(\w+)\((\d+)\)", (PROJECT / path).read_text()).groups()
    return int(number) * {"secs": 1, "mins": 60}[unit]


def alert_members():
    """What the log line of a critical alert of the registry has beside its level and text, and the names of an alert's states."""
    code = (PROJECT / "registry/src/alert.rs").read_text()
    members = re.search(r'"critical" => \{?\s*tracing::error!\((.*?)"\{text\}"\)', code, re.S)[1]
    assert "flatten_event(true)" in (PROJECT / "crates/elb-common/src/log.rs").read_text(), "members are at the top of a line"
    names = [member.split("=")[0].strip() for member in members.split(",") if member.strip()]
    return names, re.findall(r'State::\w+ => "(\w+)"', code)


def store_schemes():
    """Those of REGISTRY_STORE that lead to another machine."""
    table = (PROJECT / "registry/src/config.rs").read_text()
    (allowed,) = re.findall(r'name: "REGISTRY_STORE",\s*default: "memory",\s*allowed: "([^"]+)"', table)
    return set(re.findall(r"([a-z+]+)://", allowed)) - {"redis+unix"}


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
    for file in [*PROJECT.glob("src/**/*.rs"), *PROJECT.glob("crates/*/src/**/*.rs"), *PROJECT.glob("registry/src/**/*.rs")]:
        code = file.read_text().split("\n#[cfg(test)]\nmod tests {")[0]
        for name in re.findall(r"\.(\w+)\(\)", code):
            if name in operations():
                found.setdefault(name, set()).add(str(file.relative_to(PROJECT)))
    return found
