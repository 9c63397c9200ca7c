"""Defines the groups of contenders. Each contender does one job once."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import data, paths
from .build import Programs
from .data import Objects
from .run import Sink, call, measure

# Local files are read as objects of this bucket, so that events are the same as from S3.
BUCKET = "s3://example-elb-logs"

GZIP_1 = {"COMPRESSION": "gzip:1"}

KINDS = {
    "alb": "ALB access",
    "connection": "ALB connection",
    "health": "ALB health check",
    "classic": "classic (plain text)",
    "nlb": "NLB",
    "vended": "ALB as JSON of CloudWatch Logs",
}
FORMAT_LINES = 200_000
LEVELS = {"zlib-rs": range(1, 10), "libdeflate": (1, 2, 3, 4, 6, 9), "miniz_oxide": (1, 6)}
LEVEL_BYTES = 200_000_000
COLD_STARTS = 10

# A complete configuration as Lambda sets it. The function sends no requests before its first invocation.
FUNCTION = {
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_SESSION_TOKEN": "none",
    "AWS_LAMBDA_FUNCTION_NAME": "shipper",
    "AWS_LAMBDA_FUNCTION_VERSION": "1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/shipper",
    "AWS_LAMBDA_LOG_STREAM_NAME": "1",
}


@dataclass(frozen=True)
class Sizes:
    """Numbers of lines."""

    main: int
    peers: int
    growth: int


@dataclass(frozen=True)
class Contender:
    """A program with a job. A sample has its CPU time and memory, and what it printed about its work."""

    key: str
    title: str
    run: Callable[[], dict]
    objects: Objects | None = None
    # Short jobs are repeated, and the result is the mean.
    times: int = 1

    def sample(self) -> dict:
        samples = [self.run() for _ in range(self.times)]
        sample = dict(samples[-1])
        for name in ("cpu_ns", "wall_ns"):
            if name in sample:
                sample[name] = sum(each[name] for each in samples) / self.times
        return sample


def plan(groups: list[str], programs: Programs, sizes: Sizes) -> list[Contender]:
    """Returns the contenders of the groups in the order in which they run, and generates their data."""
    return [contender for group in groups for contender in GROUPS[group](programs, sizes)]


def main(programs: Programs, sizes: Sizes) -> list[Contender]:
    """Returns the program and its lower limits."""
    alb = data.objects(programs, "alb", sizes.main)
    bodies = kept_bodies(programs, alb)
    reach = [programs.elbbench, "reach", alb.file, bodies.path, bodies.text_bytes]
    return [
        Contender("inflate", "inflate only", lambda: measure(programs, [programs.elbbench, "inflate", alb.file]), alb),
        Contender("reach", "inflate + gzip 1 of the same output", lambda: measure(programs, reach), alb),
        Contender("json", "inflate + split + JSON (`--dry-run`)", lambda: dry(programs, alb), alb),
        Contender("json-ecs", "the same, `ecs`", lambda: dry(programs, alb, "ecs"), alb),
        Contender("whole", "`replay`, gzip 1", lambda: replay(programs, alb, GZIP_1), alb),
        Contender(
            "whole-ecs",
            "`replay`, gzip 1, `ecs`",
            lambda: replay(programs, alb, {**GZIP_1, "EVENT_SCHEMA": "ecs"}),
            alb,
        ),
        Contender("whole-default", "`replay`, default compression", lambda: replay(programs, alb), alb),
    ]


def peers(programs: Programs, sizes: Sizes) -> list[Contender]:
    """Returns other programs, which read fewer of the same lines."""
    alb = data.objects(programs, "alb", sizes.peers)
    text = data.text(programs, "alb", sizes.peers)
    python, node = programs.python, programs.node
    return [
        Contender(
            "node",
            "Node: RegExp + JSON + gzip 1",
            lambda: measure(programs, [node, paths.PEERS / "node.mjs", alb.file]),
            alb,
        ),
        Contender(
            "python",
            "Python: re + json + gzip 1",
            lambda: measure(programs, [python, paths.PEERS / "python.py", alb.file]),
            alb,
        ),
        Contender("vrl", "vrl: only parsing", lambda: measure(programs, [programs.vrl, text.file]), text),
        Contender(
            "duckdb",
            "DuckDB: inflate + texts + JSON",
            lambda: measure(programs, [python, paths.PEERS / "duckdb_json.py", alb.file]),
            alb,
        ),
    ]


def formats(programs: Programs, _: Sizes) -> list[Contender]:
    """Returns two contenders for every log type: without sending, and the whole program."""
    found = []
    for kind, title in KINDS.items():
        objects = data.objects(programs, kind, FORMAT_LINES)
        found.append(
            Contender(f"json-{kind}", f"{title}: JSON", lambda objects=objects: dry(programs, objects), objects)
        )
        found.append(
            Contender(
                f"whole-{kind}", f"{title}: gzip 1", lambda objects=objects: replay(programs, objects, GZIP_1), objects
            )
        )
    return found


def growth(programs: Programs, sizes: Sizes) -> list[Contender]:
    """Returns runs with objects of different sizes. The run with one line measures the start-up cost."""
    lines = {1: 20, 10_000: 10, 100_000: 2, 1_000_000: 1, sizes.growth: 1}
    found = []
    for count, times in lines.items():
        objects = data.objects(programs, "alb", count)
        title = f"one object of {count:,} lines"
        found.append(
            Contender(
                f"growth-{count}", title, lambda objects=objects: replay(programs, objects, GZIP_1), objects, times
            )
        )
    many = data.objects(programs, "alb", 1_000_000, 10_000)
    return [
        *found,
        Contender("growth-many", "10,000 objects of 100 lines", lambda: replay(programs, many, GZIP_1), many),
    ]


def memory(programs: Programs, sizes: Sizes) -> list[Contender]:
    """Returns runs that measure the peak memory at the default limits: with a receiver that is fast, slow or never responds, and
    of the function."""
    alb = data.objects(programs, "alb", sizes.main)
    several = data.objects(programs, "alb", sizes.main, 8)
    fewer = data.objects(programs, "alb", sizes.peers)
    short_timeout = {"REQUEST_TIMEOUT": "3s", "RETRY_BUDGET": "0s"}
    return [
        Contender("memory-fast", "fast receiver, one object", lambda: replay(programs, alb), alb),
        Contender("memory-several", "fast receiver, eight objects", lambda: replay(programs, several), several),
        Contender("memory-slow", "slow receiver (100 ms)", lambda: replay(programs, fewer, delay="100"), fewer),
        Contender(
            "memory-stuck", "stuck receiver, one object", lambda: replay(programs, alb, short_timeout, "never", 1), alb
        ),
        Contender(
            "memory-stuck-several",
            "stuck receiver, eight objects",
            lambda: replay(programs, several, short_timeout, "never", 1),
            several,
        ),
        Contender("memory-function", "`shipper`, one invocation", lambda: invoke(programs, alb), alb),
    ]


def threads(programs: Programs, sizes: Sizes) -> list[Contender]:
    """Returns runs that measure the wall time with one and two threads. They need an otherwise idle machine."""
    alb = data.objects(programs, "alb", sizes.main)
    return [
        Contender(
            f"threads-{count}",
            "one thread" if count == 1 else "two threads",
            lambda count=count: replay(programs, alb, {**GZIP_1, "TOKIO_WORKER_THREADS": str(count)}),
            alb,
        )
        for count in (1, 2)
    ]


def cold(programs: Programs, _: Sizes) -> list[Contender]:
    """Returns runs that measure the time from exec to the first request for an invocation."""
    http = {**FUNCTION, "LOGSTASH_URL": "http://logstash.example:8080/"}
    https = {**FUNCTION, "LOGSTASH_URL": "https://logstash.example:8443/"}
    return [
        Contender("cold-hello", "minimal `lambda_runtime` function", lambda: cold_starts(programs, programs.hello, FUNCTION)),
        Contender("cold-https", "`shipper`, https", lambda: cold_starts(programs, programs.shipper, https)),
        Contender("cold-http", "`shipper`, http", lambda: cold_starts(programs, programs.shipper, http)),
    ]


def levels(programs: Programs, sizes: Sizes) -> list[Contender]:
    """Returns codecs and levels, which compress the program's own bodies."""
    alb = data.objects(programs, "alb", sizes.main)
    bodies = kept_bodies(programs, alb)
    return [
        Contender(
            f"level-{codec}-{level}",
            f"{codec} {level}",
            lambda codec=codec, level=level: codec_level(programs, codec, level, bodies),
            bodies,
        )
        for codec, levels in LEVELS.items()
        for level in levels
    ]


GROUPS: dict[str, Callable[[Programs, Sizes], list[Contender]]] = {
    "main": main,
    "peers": peers,
    "formats": formats,
    "growth": growth,
    "memory": memory,
    "threads": threads,
    "cold": cold,
    "levels": levels,
}


def dry(programs: Programs, objects: Objects, schema: str = "native") -> dict:
    """Makes all events but no bodies: inflates, splits, parses and writes JSON."""
    command = [programs.elbship, "replay", objects.path, "--as", BUCKET, "--dry-run", "--schema", schema]
    return measure(programs, command)


def replay(programs: Programs, objects: Objects, variables: dict = {}, delay: str = "0", status: int = 0) -> dict:
    """Ships objects to a receiver that discards the events."""
    with Sink(programs, delay) as sink:
        command = [programs.elbship, "replay", objects.path, "--as", BUCKET, "--to", sink.url]
        sample = measure(programs, command, variables, status)
    return {**sample, **sink.seen}


def invoke(programs: Programs, objects: Objects) -> dict:
    """Ships an object with the binary of the function."""
    bucket = objects.path
    variables = {**FUNCTION, "OBJECT_STORE": f"dir:{bucket.parent}"}
    with Sink(programs) as sink, tempfile.NamedTemporaryFile("w", suffix=".json") as event:
        event.write(notification(bucket.name, objects.file.relative_to(bucket)))
        event.flush()
        command = [programs.elbbench, "invoke", event.name, programs.shipper]
        sample = measure(programs, command, {**variables, "LOGSTASH_URL": sink.url})
    return {**sample, **sink.seen}


def notification(bucket: str, key: Path) -> str:
    """Returns the notification of S3 about a new object."""
    record = f'"s3":{{"bucket":{{"name":"{bucket}"}},"object":{{"key":"{key}","size":1}}}}'
    return f'{{"Records":[{{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"ObjectCreated:Put",{record}}}]}}'


def cold_starts(programs: Programs, function: Path, variables: dict) -> dict:
    """Returns the best of several starts, because other load on the machine only makes starts slower."""
    starts = [json.loads(call([programs.elbbench, "cold-start", function], variables)) for _ in range(COLD_STARTS)]
    return {name: min(start[name] for start in starts) for name in ("start_ns", "cpu_ns")}


def codec_level(programs: Programs, codec: str, level: int, bodies: Objects) -> dict:
    """Measures one level. The process itself measures its CPU time, separately for both directions."""
    return measure(programs, [programs.elbbench, "codec", codec, level, bodies.path, LEVEL_BYTES])


def kept_bodies(programs: Programs, objects: Objects) -> Objects:
    """Keeps a sample of the request bodies that the program makes of the objects, and returns it with the size of all bodies."""
    directory = paths.OUTPUT / "bodies"
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    with Sink(programs, "0", directory) as sink:
        measure(programs, [programs.elbship, "replay", objects.path, "--as", BUCKET, "--to", sink.url], GZIP_1)
    return Objects(directory, objects.lines, sink.seen["requests"], sink.seen["text_bytes"], sink.seen["body_bytes"])
