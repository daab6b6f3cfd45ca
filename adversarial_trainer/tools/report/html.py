"""Pieces of a page. Whatever comes from outside goes through `esc`."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path


def esc(text: object) -> str:
    """As text of HTML, or as an attribute in double quotes; what is not UTF-8 as escapes."""
    plain = str(text).encode("utf-8", "backslashreplace").decode()
    return html.escape(plain.replace("\0", "\\0"))


def data_uri(kind: str, data: bytes) -> str:
    """A file inside the page; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], left: int = 1, caption: str = ""
) -> str:
    """A table that scrolls by itself where it is wide; the first `left` columns are words."""
    kinds = ["" if i < left else ' class="number"' for i in range(len(header))]
    head = "".join(f"<th{k}>{esc(cell)}</th>" for k, cell in zip(kinds, header, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{k}>{esc(cell)}</td>" for k, cell in zip(kinds, row, strict=True))
        + "</tr>\n"
        for row in rows
    )
    told = f"<p class=caption>{esc(caption)}</p>" if caption else ""
    return (
        f"<div class=wide tabindex=0><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
        f"</table></div>{told}\n"
    )


def number(value: float | None, digits: int = 3) -> str:
    """Shortly; a dash for None."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1e4 and value == int(value) else f"{value:.{digits}g}"


def sentence(text: str) -> str:
    """With a capital at its beginning, and no other change."""
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def document(title: str, heading: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """A whole page that loads nothing and runs no script but its own.

    Args:
        heading: HTML at the top.
        sections: identifier, title and HTML of each; those without HTML are left out.
    """
    style, script = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    shown = [found for found in sections if found[2]]
    contents = "".join(f'<a href="#{name}">{esc(text)}</a>\n' for name, text, _ in shown)
    body = "".join(
        f'<section id="{name}"><h2>{esc(text)}</h2>\n{inside}</section>\n'
        for name, text, inside in shown
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{esc(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header>{heading}<nav>{contents}</nav></header>\n<main>\n"
        f"{body}</main>\n<script>{script}</script>\n"
        "</body>\n</html>\n"
    )


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
