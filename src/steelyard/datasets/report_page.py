"""The report as one HTML page: pictures are inline SVG, and everything from the data is escaped."""

import json
from html import escape
from typing import Any

_WIDTH = 640
_BAR = 22
_LABEL = 190
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #d8dee5;padding:.3rem .5rem;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}pre{background:#f4f6f8;padding:.6rem;overflow:auto;
white-space:pre-wrap}svg text{font:12px system-ui,sans-serif;fill:currentColor}.d{color:#5c6b7a}
.a{fill:#2f6f9f}.b{fill:#c9d6e2}
@media(prefers-color-scheme:dark){body{background:#12181f;color:#dde5ec}pre{background:#1b242e}
td,th{border-color:#2b3743}.b{fill:#33485c}.a{fill:#6cb0e0}}
"""


def render_page(report: dict[str, Any]) -> str:
    """Return the page for a report."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta http-equiv='Content-Security-Policy'"
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Dataset report</title><style>{_STYLE}</style>",
        f"<h1>{report['rows_kept']:,} of {report['rows_in']:,} rows kept</h1>",
        f"<p class='d'>{escape(report['format'])}: {escape(', '.join(report['columns']))}; train"
        f" {report['rows_train']:,}, validation {report['rows_validation']:,}<br>"
        f"<code>{escape(report['digest'])}</code></p>",
        *_left_out(report["left_out"]),
        "<h2>Stages</h2>",
        _funnel(report),
        _stage_table(report["stages"]),
        *_lengths(report["lengths"]),
        *_clusters(report),
        "<h2>First rows</h2>",
        *(f"<pre>{escape(json.dumps(row, ensure_ascii=False, indent=1))}</pre>" for row in report["samples"]),
        "</html>",
    ]
    return "\n".join(parts)


def _left_out(columns: dict[str, int]) -> list[str]:
    if not columns:
        return []
    named = ", ".join(f"<code>{escape(name)}</code> ({rows:,} rows)" for name, rows in columns.items())
    return [f"<p>Not taken, as no column of the format: {named}.</p>"]


def _funnel(report: dict[str, Any]) -> str:
    bars = [("rows in", report["rows_in"], report["rows_in"])]
    bars += [(stage["name"], stage["rows_kept"], stage["rows_in"]) for stage in report["stages"]]
    return _bars(bars, max(1, report["rows_in"]))


def _bars(bars: list[tuple[str, int, int]], full: int) -> str:
    """Draw one bar a line: the part that is kept, on what came in."""
    room = _WIDTH - _LABEL - 80
    lines = [f"<svg viewBox='0 0 {_WIDTH} {_BAR * len(bars)}' width='100%' role='img'>"]
    for index, (label, value, behind) in enumerate(bars):
        top = index * _BAR
        lines.append(f"<text x='0' y='{top + 15}'>{escape(label)}</text>")
        for css, number in (("b", behind), ("a", value)):
            width = room * number / full
            lines.append(
                f"<rect class='{css}' x='{_LABEL}' y='{top + 3}' width='{width:.1f}' height='{_BAR - 6}'/>"
            )
        lines.append(f"<text x='{_LABEL + room + 8}' y='{top + 15}'>{value:,}</text>")
    return "".join([*lines, "</svg>"])


def _stage_table(stages: list[dict[str, Any]]) -> str:
    rows = ["<table><tr><th>stage<th>in<th>dropped<th>changed<th>why, and examples</tr>"]
    for stage in stages:
        reasons = "; ".join(f"{escape(reason)}: {count:,}" for reason, count in stage["reasons"].items())
        examples = "".join(
            f"<div class='d'>{escape(example['place'])}: {escape(example['reason'])}"
            f"<pre>{escape(example['text'])}</pre></div>"
            for example in stage["examples"]
        )
        rows.append(
            f"<tr><td>{escape(stage['name'])}<td class='n'>{stage['rows_in']:,}"
            f"<td class='n'>{stage['rows_dropped']:,}<td class='n'>{stage['changed']:,}"
            f"<td>{reasons}{examples}</tr>"
        )
    return "\n".join([*rows, "</table>"])


def _lengths(lengths: dict[str, Any]) -> list[str]:
    parts: list[str] = []
    for split, measures in lengths.items():
        for name, histogram in measures.items():
            mean = histogram["total"] / max(1, histogram["rows"])
            title = f"{escape(split)}: {escape(name)}"
            parts.append(
                f"<h2>{title}</h2><p class='d'>least {histogram['least']:,}, mean {mean:,.1f}, most"
                f" {histogram['most']:,}, sum {histogram['total']:,}</p>"
            )
            parts.append(_histogram(histogram["counts"]))
    return parts


def _histogram(counts: list[int]) -> str:
    used = [index for index, count in enumerate(counts) if count]
    if not used:
        return ""
    bars = [
        (f"{1 << (index - 1):,} to {(1 << index) - 1:,}" if index else "0", counts[index], 0)
        for index in range(used[0], used[-1] + 1)
    ]
    return _bars(bars, max(counts))


def _clusters(report: dict[str, Any]) -> list[str]:
    sizes: dict[str, int] = report["cluster_sizes"]
    if not sizes:
        return []
    shown = sorted(sizes.items(), key=lambda item: int(item[0]))[:20]
    parts = ["<h2>Groups of near-duplicates, by size</h2>"]
    parts.append(_bars([(f"{size} rows", count, 0) for size, count in shown], max(sizes.values())))
    for texts in report["clusters"]:
        parts.append("".join(f"<pre>{escape(text)}</pre>" for text in texts) + "<hr>")
    return parts
