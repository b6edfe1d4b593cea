"""The table, and the chart for the README."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.work import NAMES, Result, Work

Results = Mapping[str, Mapping[str, Result]]

PACKAGES = ("persistence-plane", "pgqueuer", "procrastinate", "dbos", "eventsourcing", "asyncpg", "psycopg", "uvloop")


def table(works: Sequence[Work], results: Results) -> str:
    """Markdown: one line a work and system."""
    lines = [
        "| work | system | median | spread | p50 / p95 / p99 | WAL bytes an item | dead rows an item | ratio, goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work in works:
        for system in work.systems:
            result = results.get(work.title, {}).get(system)
            if result is not None:
                lines.append(_line(work, system, result, results[work.title]))
    return "\n".join(lines)


def _line(work: Work, system: str, result: Result, all_of_it: Mapping[str, Result]) -> str:
    latencies = spread = wal = dead = ""
    if work.unit == "s":
        median = f"{result.percentile(0.5) * 1000:.1f} ms"
        latencies = " / ".join(f"{result.percentile(share) * 1000:.1f}" for share in (0.5, 0.95, 0.99)) + " ms"
    else:
        median = f"{result.rate:,.0f} {work.unit}"
        spread = f"{min(result.rates):,.0f} to {max(result.rates):,.0f}"
        wal, dead = (
            f"{sorted(values)[len(values) // 2]:,.{digits}f}" for values, digits in ((result.wal, 0), (result.left_behind, 1))
        )
    return f"| {work.title} | {NAMES[system]} | {median} | {spread} | {latencies} | {wal} | {dead} | {verdict(work, system, all_of_it)} |"


def verdict(work: Work, system: str, results: Mapping[str, Result]) -> str:
    """How this package compares with the best of those it is held against, and with the same record written by hand."""
    if system != "plane" or "plane" not in results:
        return ""
    ours = results["plane"]
    peers = [results[peer] for peer in work.against if peer in results]
    words = []
    if work.unit == "s" and peers:
        ratios = [ours.percentile(share) / max(peers[0].percentile(share), 1e-9) for share in (0.5, 0.99)]
        words.append(f"p50 {ratios[0]:.2f} (goal 0.7), p99 {ratios[1]:.2f} (goal 1): {_met(ratios[0] <= 0.7 and ratios[1] <= 1.0)}")
    elif work.goal and peers:
        ratio = ours.rate / max(peer.rate for peer in peers)
        words.append(f"{ratio:.2f}, goal {work.goal}: {_met(ratio >= work.goal)}")
    if work.floor and "by_hand" in results:
        ratio = ours.rate / results["by_hand"].rate
        words.append(f"{ratio:.2f} of by hand, goal {work.floor}: {_met(ratio >= work.floor)}")
    return "; ".join(words)


def _met(is_met: object) -> str:
    return "met" if is_met else "missed"


def circumstances(settings: Mapping[str, str], rounds: int) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    server = ", ".join(f"{name} {value}" for name, value in settings.items())
    return (
        f"{os.cpu_count()} cores, {memory} GiB, {platform.machine()}, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}; {rounds} rounds in turn, medians.\nServer: {server}.\nVersions: {versions}."
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def chart(works: Sequence[Work], results: Results) -> str:
    """An SVG of bars: this package against its fastest peer, a work a line, the peer's length being one."""
    rows = []
    for work in works:
        peers = {peer: results[work.title][peer] for peer in work.against if peer in results.get(work.title, {})}
        if work.unit != "s" and peers and "plane" in results[work.title]:
            peer = max(peers, key=lambda name: peers[name].rate)
            rows.append((work.title, results[work.title]["plane"].rate, NAMES[peer], peers[peer].rate, work.unit))
    height = 46 * len(rows) + 30
    longest = max((max(ours, theirs) / theirs for _, ours, _, theirs, _ in rows), default=1)
    scale = 360 / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" font-family="system-ui, sans-serif" font-size="13">',
        "<style>text{fill:#333}.o{fill:#2f6f9f}.p{fill:#b9c4cc}@media(prefers-color-scheme:dark){text{fill:#ddd}.p{fill:#5b6770}.o{fill:#6fb3e0}}</style>",
    ]
    for index, (title, ours, peer, theirs, unit) in enumerate(rows):
        top = 46 * index + 14
        parts.append(f'<text x="8" y="{top + 20}">{escape(title)}</text>')
        for offset, kind, label, value in ((0, "o", "persistence", ours), (17, "p", peer, theirs)):
            width = max(2.0, value / theirs * scale)
            parts.append(f'<rect class="{kind}" x="230" y="{top + offset}" width="{width:.0f}" height="14" rx="2"/>')
            parts.append(
                f'<text x="{236 + width:.0f}" y="{top + offset + 11}" font-size="11">{value:,.0f} {escape(unit)}, {escape(label)}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


def write(folder: Path, text: str, svg: str) -> None:
    (folder / "RESULTS.md").write_text(_replaced((folder / "RESULTS.md").read_text(), text))
    (folder / "chart.svg").write_text(svg)


BEGIN, END = "<!-- made by make bench -->", "<!-- end -->"


def _replaced(old: str, text: str) -> str:
    head, _, rest = old.partition(BEGIN)
    tail = rest.partition(END)[2] if rest else ""
    return f"{head}{BEGIN}\n{text}\n{END}{tail}"
