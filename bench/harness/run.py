"""Runs one program once and says what it used."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from .build import Programs


def measure(programs: Programs, command: list, variables: Mapping[str, str] = {}, status: int = 0) -> dict:
    """CPU time, wall time and peak memory of a command in an environment of its own, and what it printed as JSON."""
    with tempfile.NamedTemporaryFile("r") as usage:
        done = execute([programs.elbbench, "measure", usage.name, *command], variables)
        used = json.load(usage)
    if used["status"] != status:
        raise RuntimeError(f"{command} ended with {used['status']} instead of {status}: {done.stderr[-2000:]}")
    # The program ends with a sentence about what it did. Lines that it takes for broken ones would cost something else.
    summary = done.stderr.strip().rpartition("\n")[2]
    if " unparsed" in summary:
        raise RuntimeError(f"{command} did not understand what was generated: {summary}")
    return {**used, **(json.loads(done.stdout) if done.stdout.startswith("{") else {})}


def call(command: list, variables: Mapping[str, str] = {}) -> str:
    """What a command prints."""
    return execute(command, variables).stdout


def execute(command: list, variables: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Runs a command to its end. Its messages are caught: an object's log line is a part of the work, showing it is not."""
    environment = {"PATH": os.environ["PATH"], **variables}
    texts = [str(word) for word in command]
    done = subprocess.run(texts, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(texts)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done


class Sink(AbstractContextManager):
    """A receiver in a process of its own, whose work counts for nobody."""

    def __init__(self, programs: Programs, patience: str = "0", bodies: Path | None = None) -> None:
        arguments = [str(programs.elbbench), "sink", patience, *([str(bodies)] if bodies else [])]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/"
        self.seen: dict = {}

    def __exit__(self, *_) -> None:
        self.seen = json.loads(self.process.communicate()[0])
