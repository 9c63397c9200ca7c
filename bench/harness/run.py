"""Runs a program once and measures it."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from .build import Programs


def measure(programs: Programs, command: list, variables: Mapping[str, str] = {}, status: int = 0) -> dict:
    """Returns CPU time, wall time and peak memory of a command, and what it printed as JSON. The command gets only `variables`."""
    with tempfile.NamedTemporaryFile("r") as usage:
        done = execute([programs.elbbench, "measure", usage.name, *command], variables)
        used = json.load(usage)
    if used["status"] != status:
        raise RuntimeError(f"{command} exited with {used['status']} instead of {status}: {done.stderr[-2000:]}")
    # The last line of the program is a summary. Unparsed lines would make the measurement meaningless.
    summary = done.stderr.strip().rpartition("\n")[2]
    if " unparsed" in summary:
        raise RuntimeError(f"{command} could not parse generated lines: {summary}")
    return {**used, **(json.loads(done.stdout) if done.stdout.startswith("{") else {})}


def call(command: list, variables: Mapping[str, str] = {}) -> str:
    """Returns the standard output of a command."""
    return execute(command, variables).stdout


def execute(command: list, variables: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Runs a command to its end and captures its output, because showing log lines is not part of the measured work."""
    environment = {"PATH": os.environ["PATH"], **variables}
    texts = [str(word) for word in command]
    done = subprocess.run(texts, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(texts)} exited with {done.returncode}: {done.stderr[-2000:]}")
    return done


class Sink(AbstractContextManager):
    """A receiver in a separate process, whose CPU time is not counted."""

    def __init__(self, programs: Programs, delay: str = "0", bodies: Path | None = None) -> None:
        arguments = [str(programs.elbbench), "sink", delay, *([str(bodies)] if bodies else [])]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/"
        self.seen: dict = {}

    def __exit__(self, *_) -> None:
        self.seen = json.loads(self.process.communicate()[0])
