"""How a page is written: its style, its tables and its pictures, without a network and without scripts."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from transpert.errors import TranspertError

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #ffffff; --line: #d0d7de; --soft: #57606a; --own: #eaf3fb; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --back: #0d1117; --line: #30363d; --soft: #9198a1;
  --own: #16263a; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 auto;
  max-width: 1180px; padding: 1rem; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; } h2 { border-top: 1px solid var(--line); padding-top: 1rem; margin-top: 2rem; }
p { max-width: 75ch; } .wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 14px; overflow-wrap: normal; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { vertical-align: bottom; line-height: 1.25; } th small { display: block; color: var(--soft); font-weight: normal; }
th:first-child, td:first-child, .words th, .words td, td.text { text-align: left; }
td.text, .words td:last-child { white-space: normal; overflow-wrap: anywhere; }
td.text { min-width: 12rem; } tr.own { background: var(--own); font-weight: 600; }
figure { margin: 0; min-width: 0; } figure.whole { grid-column: 1 / -1; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 1.5rem;
  align-items: start; }
.note, figcaption { color: var(--soft); font-size: 14px; }
@media print { :root { --text: #000; --back: #fff; --line: #bbb; --soft: #444; --own: #eee; }
  body { max-width: none; font-size: 12px; } table { font-size: 10px; } th, td { padding: .15rem .35rem; }
  figure, tr { break-inside: avoid; } .wide { overflow: visible; } h2, h3 { break-after: avoid; margin-top: 1rem; }
  .pictures { grid-template-columns: 1fr 1fr; gap: .75rem; } .note, figcaption { font-size: 11px; } }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """Write a whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def section(title: str, body: str) -> str:
    """Write a section, or nothing where there is nothing to say."""
    return f"<section><h2>{html.escape(title)}</h2>\n{body}</section>" if body else ""


def heading(text: str) -> str:
    """Write the title of a part of a section."""
    return f"<h3>{html.escape(text)}</h3>"


def paragraph(text: str, *, note: bool = False) -> str:
    """Write a paragraph."""
    return f"<p{' class="note"' if note else ''}>{html.escape(text)}</p>"


def table(frame: pd.DataFrame, *, hints: dict[str, str] | None = None, own: str | None = None) -> str:
    """Write a table that scrolls in itself where the page is narrow; the row of ``own`` stands out."""
    head = "".join(_head(str(name), (hints or {}).get(str(name), "")) for name in frame.columns)
    rows = [
        f"<tr{' class="own"' if own is not None and row[0] == own else ''}>" + "".join(map(_cell, row)) + "</tr>"
        for row in frame.itertuples(index=False)
    ]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Write names and what they are; what is empty is left out."""
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows if value
    )
    return f'<div class="wide"><table class="words"><tbody>{cells}</tbody></table></div>'


def picture(caption: str, draw: Callable[[], object], *, whole: bool = False) -> str:
    """Draw one picture into the page, or say why it cannot be drawn."""
    before = set(plt.get_fignums())
    try:
        draw()
        sink = io.BytesIO()
        plt.savefig(sink, format="png", dpi=110, bbox_inches="tight")
    except TranspertError as error:
        return paragraph(f"{caption}: {error}", note=True)
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    data = base64.b64encode(sink.getvalue()).decode("ascii")
    name = html.escape(caption)
    return (
        f'<figure{' class="whole"' if whole else ""}><img alt="{name}" src="data:image/png;base64,{data}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _head(name: str, hint: str) -> str:
    """Write the name of a column, which may break at its underscores."""
    broken = re.sub("_(?=[^_]{3})", "_<wbr>", html.escape(name))
    small = f"<small>{html.escape(hint)}</small>" if hint else ""
    return f"<th{' style="white-space: normal"' if '_' in name else ''}>{broken}{small}</th>"


def _cell(value: Any) -> str:
    """Write one value."""
    if isinstance(value, float):
        return "<td>undefined</td>" if pd.isna(value) else f"<td>{value:.3f}</td>"
    text = html.escape(str(value))
    return f'<td class="text">{text}</td>' if len(text) > 24 else f"<td>{text}</td>"
