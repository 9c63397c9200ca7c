"""Renders the results as Markdown tables."""

from collections.abc import Callable

from .contenders import KINDS, LEVELS
from .result import Figure, Result

MAIN = (
    "inflate",
    "reach",
    "json",
    "json-ecs",
    "whole",
    "whole-ecs",
    "whole-default",
    "node",
    "python",
    "vrl",
    "duckdb",
)


def render(found: Result) -> str:
    """Returns all tables that have results."""
    about = f"{found.machine}; {found.rounds} round{'s' * (found.rounds > 1)}, {found.minutes} minutes; " + ", ".join(
        f"{name} {version}" for name, version in found.versions.items()
    )
    tables = (main, formats, growth, memory, threads, cold, levels, targets)
    return "\n\n".join([about, *(table for table in (make(found) for make in tables) if table)])


def table(title: str, head: list[str], rows: list[list[str]]) -> str:
    """Returns a table; an empty text if it has no rows."""
    if not rows:
        return ""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join([f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])


def main(found: Result) -> str:
    head = ["ALB access logs", "CPU ns/line", "MB/s of text", "peak RSS MiB", "× inflate only", "× `replay`, gzip 1"]
    return table(
        "The program, its lower limits and its peers", head, [main_row(found, figure) for figure in present(found, MAIN)]
    )


def main_row(found: Result, figure: Figure) -> list[str]:
    compared = [ratio_to(figure, found.get(key)) for key in ("inflate", "whole")]
    dropped = f" (rejects {figure['rejected'] / figure.lines:.1%})" if figure.sample.get("rejected") else ""
    return [
        figure.title + dropped,
        f"{figure.ns_per_line:,.0f}",
        f"{figure.mb_per_s:,.0f}",
        f"{figure.rss_mib:.1f}",
        *compared,
    ]


def ratio_to(figure: Figure, base: Figure | None) -> str:
    return f"{figure.ns_per_line / base.ns_per_line:.2f}" if base else ""


def formats(found: Result) -> str:
    head = [
        "log type",
        "bytes/line",
        "JSON bytes/line",
        "JSON: ns/line",
        "JSON: ns/byte of text",
        "× ALB",
        "gzip 1: ns/line",
        "ns/byte of text",
        "× ALB",
    ]
    rows = [format_row(found, kind) for kind in KINDS if found.get(f"whole-{kind}")]
    return table("Every log type", head, rows)


def format_row(found: Result, kind: str) -> list[str]:
    json, whole = found.figures[f"json-{kind}"], found.figures[f"whole-{kind}"]
    costs = []
    for figure, stage in ((json, "json"), (whole, "whole")):
        costs += [
            f"{figure.ns_per_line:,.0f}",
            f"{per_byte(figure):.2f}",
            f"{per_byte(figure) / per_byte(found.figures[f'{stage}-alb']):.2f}",
        ]
    return [KINDS[kind], f"{whole.text_bytes / whole.lines:.0f}", f"{whole['text_bytes'] / whole.lines:.0f}", *costs]


def per_byte(figure: Figure) -> float:
    return figure["cpu_ns"] / figure.text_bytes


def growth(found: Result) -> str:
    start = found.get("growth-1")
    sizes = [figure for key, figure in found.figures.items() if key.startswith("growth-") and figure is not start]
    rows = [
        [figure.title, f"{figure.ns_per_line:,.0f}", f"{net(figure, start):,.0f}", f"{figure.rss_mib:.1f}"]
        for figure in sizes
    ]
    note = f" (start-up: {start['cpu_ns'] / 1e6:.1f} ms)" if start else ""
    return table("Growth, gzip 1" + note, ["objects", "CPU ns/line", "without start-up", "peak RSS MiB"], rows)


def net(figure: Figure, start: Figure) -> float:
    """Returns the CPU time per line without the start-up cost."""
    return (figure["cpu_ns"] - start["cpu_ns"]) / figure.lines


def memory(found: Result) -> str:
    rows = [
        [figure.title, f"{figure.rss_mib:.1f}"] for key, figure in found.figures.items() if key.startswith("memory-")
    ]
    return table("Peak memory at the default limits", ["receiver", "peak RSS MiB"], rows)


def threads(found: Result) -> str:
    figures = present(found, ("threads-1", "threads-2"))
    rows = [
        [
            figure.title,
            f"{figure['wall_ns'] / 1e9:.2f}",
            f"{figures[0]['wall_ns'] / figure['wall_ns']:.2f}",
            f"{figure['cpu_ns'] / figure['wall_ns']:.2f}",
        ]
        for figure in figures
    ]
    return table("Threads", ["`TOKIO_WORKER_THREADS`", "wall s", "speed-up", "CPU/wall"], rows)


def cold(found: Result) -> str:
    figures = present(found, ("cold-hello", "cold-https", "cold-http"))
    rows = [
        [figure.title, *cold_cells(figure, figures[0], "start_ns"), *cold_cells(figure, figures[0], "cpu_ns")]
        for figure in figures
    ]
    head = ["function", "ms", "× minimal", "CPU ms", "× minimal"]
    return table("Cold start, from exec to the first request for an invocation", head, rows)


def cold_cells(figure: Figure, minimal: Figure, name: str) -> list[str]:
    return [f"{figure[name] / 1e6:.2f}", f"{figure[name] / minimal[name]:.2f}"]


def levels(found: Result) -> str:
    keys = [f"level-{codec}-{level}" for codec, levels in LEVELS.items() for level in levels]
    head = ["codec and level", "deflate ns/line", "MB/s of JSON", "bytes/line", "ratio", "inflate ns/line"]
    return table(
        "Compression of the program's own request bodies", head, [level_row(figure) for figure in present(found, keys)]
    )


def level_row(figure: Figure) -> list[str]:
    deflate, inflate, size = (figure.per_line(name) for name in ("deflate_ns", "inflate_ns", "compressed_bytes"))
    json = figure.per_line("bytes")
    return [
        figure.title,
        f"{deflate:,.0f}",
        f"{json / deflate * 1_000:,.0f}",
        f"{size:.0f}",
        f"{json / size:.1f}",
        f"{inflate:,.0f}",
    ]


def present(found: Result, keys) -> list[Figure]:
    return [figure for figure in map(found.get, keys) if figure]


def targets(found: Result) -> str:
    rows = [row for row in (target_row(found, *target) for target in TARGETS) if row]
    return table("Targets", ["what", "target", "measured", "met"], rows)


def target_row(found: Result, what: str, limit: str, judge: Callable[[Result], tuple[str, bool]]) -> list[str] | None:
    """Returns a row; none if a contender of the target was not measured."""
    try:
        measured, met = judge(found)
    except KeyError:
        return None
    return [what, limit, measured, "yes" if met else "**no**"]


def at_most(limit: float, over: str, under: str, allowance: str = "× {:.2f}"):
    def judge(found: Result) -> tuple[str, bool]:
        ratio = found.figures[over].ns_per_line / found.figures[under].ns_per_line
        return allowance.format(ratio), ratio <= limit

    return judge


def peers_judge(found: Result) -> tuple[str, bool]:
    ours = found.figures["whole"].ns_per_line
    node, python = (found.figures[peer].ns_per_line / ours for peer in ("node", "python"))
    return f"{node:.1f} × and {python:.1f} ×", node >= 6 and python >= 9


def vrl_judge(found: Result) -> tuple[str, bool]:
    ratio = found.figures["vrl"].ns_per_line / found.figures["json"].ns_per_line
    return f"{ratio:.1f} ×", ratio >= 5


def memory_judge(found: Result) -> tuple[str, bool]:
    fast = max(found.figures[key].rss_mib for key in ("memory-fast", "memory-several", "memory-function"))
    stuck = max(found.figures[key].rss_mib for key in ("memory-slow", "memory-stuck", "memory-stuck-several"))
    return f"{fast:.1f} and {stuck:.1f} MiB", fast <= 32 and stuck <= 40


def ecs_judge(found: Result) -> tuple[str, bool]:
    json, whole = (
        found.figures[f"{stage}-ecs"].ns_per_line / found.figures[stage].ns_per_line for stage in ("json", "whole")
    )
    return f"× {whole:.2f} whole, × {json:.2f} without gzip", max(json, whole) <= 1.3


def formats_judge(found: Result) -> tuple[str, bool]:
    kinds = [kind for kind in KINDS if kind != "alb"]
    worst = {}
    for stage in ("whole", "json"):
        alb = per_byte(found.figures[f"{stage}-alb"])
        worst[stage] = max((per_byte(found.figures[f"{stage}-{kind}"]) / alb, kind) for kind in kinds)
    texts = [f"× {ratio:.2f} ({kind}) {name}" for (ratio, kind), name in zip(worst.values(), ("whole", "without gzip"))]
    return ", ".join(texts), all(ratio <= 1.2 for ratio, _ in worst.values())


def cold_judge(found: Result) -> tuple[str, bool]:
    ratio = found.figures["cold-https"]["start_ns"] / found.figures["cold-hello"]["start_ns"]
    return f"× {ratio:.2f}", ratio <= 2


def growth_judge(found: Result) -> tuple[str, bool]:
    start = found.figures["growth-1"]
    sizes = [
        net(figure, start)
        for key, figure in found.figures.items()
        if key.startswith("growth-") and key not in ("growth-1", "growth-many")
    ]
    one, many = found.figures["growth-1000000"].ns_per_line, found.figures["growth-many"].ns_per_line
    middle = (max(sizes) + min(sizes)) / 2
    spread = (max(sizes) - middle) / middle
    return f"± {spread:.1%}; × {many / one:.2f}", spread <= 0.05 and many / one <= 1.5


def connections_judge(found: Result) -> tuple[str, bool]:
    connections = found.figures["whole"]["connections"]
    return f"{connections:.0f}", connections <= 4


TARGETS = (
    ("inflate + split + typed native JSON, CPU", "≤ 2.5 × inflate only, stretch 2.1", at_most(2.5, "json", "inflate")),
    (
        "whole `replay`, gzip 1, CPU",
        "≤ 1.35 × (inflate + gzip 1 of the same output), stretch 1.25",
        at_most(1.35, "whole", "reach"),
    ),
    ("against Node and Python, gzip 1 each", "≥ 6 × and ≥ 9 × less CPU", peers_judge),
    ("against only the parsing of vrl", "≥ 5 × less CPU for inflate + parse + JSON", vrl_judge),
    ("peak RSS, default limits", "≤ 32 MiB fast, ≤ 40 MiB stuck receiver", memory_judge),
    ("`ecs`", "≤ 1.3 × the CPU of `native`", ecs_judge),
    ("every other log type", "≤ 1.2 × ALB's CPU per byte", formats_judge),
    ("cold start", "≤ 2 × a minimal `lambda_runtime` function", cold_judge),
    ("growth", "± 5 % from 10,000 lines; 10,000 objects ≤ 1.5 ×", growth_judge),
    ("connections for all lines", "≤ `SEND_CONCURRENCY` (4)", connections_judge),
)
