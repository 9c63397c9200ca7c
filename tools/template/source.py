"""Facts of the Rust source: variables, metrics, and calls of the AWS SDKs.

Definitions are searched for in a whole package, so that files can be moved and split.
"""

import json
import re
import subprocess
from functools import cache
from pathlib import Path

from render import PROJECT

SHIPPER, REGISTRY, COMMON = "src", "registry/src", "crates/elb-common/src"


@cache
def sources(package):
    """The text of each Rust file of a package."""
    return [file.read_text() for file in sorted((PROJECT / package).glob("**/*.rs"))]


def matches(package, pattern):
    return [match for text in sources(package) for match in re.finditer(pattern, text, re.M | re.S)]


def definition(package, pattern):
    """The only match of a pattern in a package."""
    found = matches(package, pattern)
    assert len(found) == 1, f"{len(found)} matches of {pattern!r} in {package}/ instead of one; adapt tools/template/source.py"
    return found[0]


def variables(package):
    """The names in the table VARIABLES."""
    return re.findall(r'\bname: "([A-Z0-9_]+)"', definition(package, r"^pub const VARIABLES\b.*?^\];")[0])


SHIPPER_VARIABLES = variables(SHIPPER)
REGISTRY_VARIABLES = variables(REGISTRY)


def constant(package, name):
    return definition(package, rf'const {name}: &str = "([^"]+)"')[1]


NAMESPACE = constant(SHIPPER, "NAMESPACE")
DIMENSION = constant(SHIPPER, "DIMENSION")
# The metrics of the counters, which are entries of a macro's list, and the metrics of the object as a whole.
UNIT = '"(?:Bytes|Count|Milliseconds)"'
METRICS = [match[1] for match in matches(SHIPPER, rf'(?:=>|^) +\("(\w+)", {UNIT}\)[;,]$')]
assert {"LinesRead", "ShipDelay"} <= set(METRICS), "the metrics are not where tools/template/source.py searches for them"


def seconds(package, name):
    """A Duration of whole minutes or seconds."""
    unit, number = definition(package, rf"const {name}: Duration = Duration::from_(\w+)\((\d+)\)").groups()
    return int(number) * {"secs": 1, "mins": 60}[unit]


def alert_members():
    """The members of the log line of a critical alert, besides its level and text, and the names of an alert's states."""
    members = definition(REGISTRY, r'"critical" => \{?\s*tracing::error!\((.*?)"\{text\}"\)')[1]
    assert matches(COMMON, r"flatten_event\(true\)"), "members are at the top level of a log line"
    names = [member.split("=")[0].strip() for member in members.split(",") if member.strip()]
    return names, [match[1] for match in matches(REGISTRY, r'AlertState::\w+ => "(\w+)"')]


def store_schemes():
    """The URL schemes of REGISTRY_STORE for a store on another machine."""
    allowed = definition(REGISTRY, r'name: "REGISTRY_STORE",\s*default: "memory",\s*shown: [\w:]+,\s*allowed: "([^"]+)"')[1]
    return set(re.findall(r"([a-z+]+)://", allowed)) - {"redis+unix"}


@cache
def operations():
    """Every operation of the SDKs in use. In an SDK's crate, each operation has a file in `src/client`."""
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
