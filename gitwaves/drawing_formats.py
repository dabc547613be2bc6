"""A picture written down: ASCII, Mermaid, DOT and SVG. Pure.

Titles are people's, so each format has one function that lets none of them be anything but text:
`plain` (ASCII), `_mermaid`, `_dot` and `_xml`. Ids in the output are numbers, never the plan's.
"""

from __future__ import annotations

import html
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from gitwaves.drawing import Edge, Node, Picture
from gitwaves.layout import cut, fit, plain, wrap
from gitwaves.model import natural, printable
from gitwaves.words import MARKS

WIDTH = 100
FORGE_ARROWS, FORGE_CHARS = 499, 50_000  # of a Mermaid chart: beyond it forges draw nothing
_ARROWS = (100, 3)  # drawn of a folded plan: so many, or so many for each node
Color = Callable[[str, str], str]

# The mark of each state where there are no colours; a merge point's are among them.
_MARK = {
    "done": "x", "active": "*", "failed": "!", "stale": "~", "unproven": "?", "held": "h",
    "runnable": "o", "blocked": ".", "ready": "o", "reverted": "!", "cancelled": "-",
}  # fmt: skip
assert all(_MARK[str(state)] == sign for state, sign in MARKS.items())
# What is filled with, and what is drawn with: readable on white, and without red against green.
_COLORS = {
    "done": ("#d7ecd9", "#2f6f3e"), "active": ("#fff1bf", "#8a6100"),
    "failed": ("#fbd5d5", "#a61b1b"), "reverted": ("#fbd5d5", "#a61b1b"),
    "stale": ("#e6dcf5", "#5b3a9b"), "unproven": ("#f8d8ea", "#93246a"),
    "held": ("#ffe2c7", "#9a4a06"), "runnable": ("#d4e6fb", "#1c5596"),
    "ready": ("#d4e6fb", "#1c5596"), "blocked": ("#eeeeee", "#555555"),
    "cancelled": ("#ffffff", "#888888"),
}  # fmt: skip
_CRITICAL = "#c2410c"


def _words(node: Node, width: int) -> tuple[str, str]:
    """The two lines of a node's label: what it is, and how it stands."""
    if node.kind in {"task", "merge_point"}:
        said = node.title if node.kind == "task" else node.note
        return f"{node.id} ({node.state})", cut(said, width)
    title = f" {node.title}" * bool(node.title)
    return cut(node.id + title, width), f"{node.state}, {node.note}"


# --- ASCII ---


def ascii_text(drawn: Picture, *, width: int = WIDTH, color: Color | None = None) -> str:
    """The waves as rows and the worktrees as columns; folded, a line for each node.

    7-bit ASCII but for the colours; at most `width` columns, at least 60.
    """
    width = max(width, 60)
    paint = color or (lambda text, style: text)
    lines = [f"{plain(drawn.title) or 'gitwaves'}: {_counted(drawn)}", ""]
    lines += _grid(drawn, width, paint) if drawn.fold == "none" else _list(drawn, width, paint)
    lines += ["", *_legend(drawn, width)]
    return "".join(line.rstrip() + "\n" for line in lines)


def _counted(drawn: Picture) -> str:
    tasks = {task for node in drawn.nodes if node.kind != "merge_point" for task in node.tasks}
    merges = sum(node.kind == "merge_point" for node in drawn.nodes)
    parts = [f"{len(tasks)} task{'s' * (len(tasks) != 1)}"]
    parts += [f"{merges} merge point{'s' * (merges != 1)}"] * bool(merges)
    parts += [f"{drawn.left_out} cancelled"] * bool(drawn.left_out)
    return ", ".join(parts) + f"; folded by {drawn.fold}" * (drawn.fold != "none")


def _cell(node: Node) -> str:
    """How a node is written where it stands: `x A1`, on the critical path `x=A1`."""
    return f"{_MARK[node.state]}{'=' if node.critical else ' '}{node.id}"


def _grid(drawn: Picture, width: int, paint: Color) -> list[str]:
    by_column: defaultdict[int, list[Node]] = defaultdict(list)
    for node in drawn.nodes:
        by_column[node.column].append(node)
    group_of = {node: group for group in drawn.groups for node in group.nodes}
    lead = max([len(f"  {name}") for name in drawn.columns] + [8]) + 2
    widths = [len(name) for name in drawn.lanes]
    for node in drawn.nodes:
        if node.kind == "task":
            widths[node.lane] = max(widths[node.lane], len(_cell(node)))
    fits = lead + sum(widths) + 2 * len(widths) + 12 <= width
    span: dict[int, tuple[int, int]] = {}
    for node in drawn.nodes:
        if node.kind == "task":
            first, last = span.get(node.lane, (node.column, node.column))
            span[node.lane] = (min(first, node.column), max(last, node.column))
    lines = []
    if fits and drawn.lanes:
        names = "".join(f"{name:<{w + 2}}" for name, w in zip(drawn.lanes, widths, strict=True))
        lines.append(paint(f"{'':<{lead}}{names}".rstrip(), "heading"))
    before = None
    for column, nodes in sorted(by_column.items()):
        group = group_of.get(nodes[0].id)
        if group is not None and group is not before:
            lines.append(paint(f"BATCH {group.id}", "heading") + f"  {group.state}")
            before = group
        if nodes[0].kind == "merge_point":
            for node in nodes:
                lines += _point_row(drawn, node, lead, widths if fits else None, width, paint)
            continue
        head = f"  {drawn.columns[column]}"
        if not fits:
            cells = [_cell(node) for node in nodes]
            rows = wrap(f"{head:<{lead}}", cells, width)
            lines += [_painted(row, nodes, paint) for row in rows]
            continue
        row = f"{head:<{lead}}"
        for lane, w in enumerate(widths):
            here = next((node for node in nodes if node.lane == lane), None)
            first, last = span.get(lane, (0, -1))
            idle = "  |" if first < column < last else ""
            cell = f"{_cell(here) if here else idle:<{w + 2}}"
            row += paint(cell, here.state) if here else cell
        lines += _with_notes(row, lead + sum(widths) + 2 * len(widths), _needs(drawn, nodes), width)
    return lines


def _painted(row: str, nodes: Iterable[Node], paint: Color) -> str:
    for node in sorted(nodes, key=lambda node: -len(node.id)):
        row = row.replace(f"{_cell(node)} ", paint(_cell(node), node.state) + " ")
    return row


def _needs(drawn: Picture, nodes: Iterable[Node]) -> list[str]:
    """What the tasks of a wave need from other lanes: `B2 <- A1 MP1`."""
    lane = {node.id: node.lane for node in drawn.nodes if node.kind == "task"}
    back: defaultdict[str, list[str]] = defaultdict(list)
    for edge in drawn.edges:
        if lane.get(edge.from_, -1) != lane.get(edge.to):
            back[edge.to].append(edge.from_)
    return [
        f"{node.id} <- {' '.join(sorted(back[node.id], key=natural))}"
        for node in nodes
        if node.id in back
    ]


def _with_notes(row: str, used: int, notes: Sequence[str], width: int) -> list[str]:
    """A row with its notes to the right, as many as fit in two lines."""
    if not notes:
        return [row]
    room = width - used
    text = fit(notes, room, sep="; ")
    if len(notes) == 1 or not text.endswith(f"+{len(notes) - 1}"):
        return [row + text]
    return [row + notes[0], " " * used + fit(notes[1:], room, sep="; ")]


def _point_row(
    drawn: Picture,
    node: Node,
    lead: int,
    widths: Sequence[int] | None,
    width: int,
    paint: Color,
) -> list[str]:
    """A merge point as a line through the lanes that meet in it."""
    head = paint(f"{f'  {_cell(node)}':<{lead}}", node.state)
    note = plain(node.note)
    if widths is None:
        return [head + cut(note, width - lead)]
    lane_of = {other.id: other.lane for other in drawn.nodes if other.kind == "task"}
    met = {lane_of[task] for task in node.tasks if task in lane_of}
    row = ""
    for lane, w in enumerate(widths):
        within = bool(met) and min(met) <= lane <= max(met)
        line = "--" if within and lane > min(met) else "  "
        end = "-" if within and lane < max(met) else " "
        row += line + ("+" if lane in met else line[0]) + end * (w - 1)
    return [head + row + cut(note, width - lead - len(row))]


def _list(drawn: Picture, width: int, paint: Color) -> list[str]:
    back: defaultdict[str, list[str]] = defaultdict(list)
    for edge in drawn.edges:
        back[edge.to].append(edge.from_)
    names = {node.id: cut(plain(f"{node.id} {node.title}"), 40) for node in drawn.nodes}
    name_width = max(map(len, names.values()), default=0)
    states = max((len(node.state) for node in drawn.nodes), default=0)
    lines = []
    for node in sorted(drawn.nodes, key=lambda node: (node.column, node.lane)):
        merges = node.kind == "merge_point"
        sign = "=" if node.critical else " "
        name = ("  " * merges + names[node.id]).ljust(name_width + 2)
        row = f"{_MARK[node.state]}{sign}{name}  {node.state:<{states}}  "
        tail = f"{'' if merges else node.note:<12}"
        needs = [name.removeprefix("Batch ") for name in sorted(back[node.id], key=natural)]
        room = width - len(row) - len(tail) - 3
        tail += (" <- " + fit(needs, max(room, 12), sep=", ")) * bool(needs)
        lines.append(paint(row, node.state) + tail)
    return lines


def _legend(drawn: Picture, width: int) -> list[str]:
    states = {node.state for node in drawn.nodes}
    parts = [f"{sign} {state}" for state, sign in _MARK.items() if state in states]
    parts += ["= critical path"] * any(node.critical for node in drawn.nodes)
    parts += ["B2 <- A1: B2 needs A1"] * bool(drawn.edges)
    return wrap("", parts, width)


# --- arrows ---


def _arrows(drawn: Picture) -> tuple[list[Edge], str]:
    """The arrows to draw, in their order, and a word on those that are left out.

    Folded, nearly everything may need nearly everything: the critical path is drawn, and where the
    most needs were folded into one.
    """
    least, each = _ARROWS
    most = min(max(least, each * len(drawn.nodes)), FORGE_ARROWS)
    edges = list(drawn.edges)
    if drawn.fold == "none" or len(edges) <= most:
        return edges, ""
    ranked = sorted(range(len(edges)), key=lambda k: (not edges[k].critical, -edges[k].count, k))
    return [edges[k] for k in sorted(ranked[:most])], f"{len(edges) - most} weaker arrows left out"


# --- Mermaid ---


def mermaid_text(drawn: Picture) -> str:
    """A Mermaid flowchart; in a fence marked `mermaid` the forges draw it, if it is not too large."""
    arrows, left_out = _arrows(drawn)
    number = {node.id: n for n, node in enumerate(drawn.nodes)}
    inside = {name for group in drawn.groups for name in group.nodes}
    lines = ["flowchart LR"]

    def node_line(node: Node, indent: str) -> str:
        label = "<br/>".join(_mermaid(part) for part in _words(node, 40) if part)
        left, right = ("{{", "}}") if node.kind == "merge_point" else ("[", "]")
        return f'{indent}n{number[node.id]}{left}"{label}"{right}:::{node.state}'

    nodes = {node.id: node for node in drawn.nodes}
    for n, group in enumerate(drawn.groups):
        lines.append(f'  subgraph g{n}["{_mermaid(f"Batch {group.id} ({group.state})")}"]')
        lines += [node_line(nodes[name], "    ") for name in group.nodes]
        lines.append("  end")
    lines += [node_line(node, "  ") for node in drawn.nodes if node.id not in inside]
    lines += [f'  more["{_mermaid(left_out)}"]'] * bool(left_out)
    heavy = []
    for k, edge in enumerate(arrows):
        arrow = "==>" if edge.critical else "-.->" if not edge.count else "-->"
        label = f'|"{edge.count}"|' if edge.count > 1 else ""
        lines.append(f"  n{number[edge.from_]} {arrow}{label} n{number[edge.to]}")
        heavy += [str(k)] * edge.critical
    for state in sorted({node.state for node in drawn.nodes}):
        fill, stroke = _COLORS[state]
        lines.append(f"  classDef {state} fill:{fill},stroke:{stroke},color:#222222")
    critical = ",".join(f"n{number[node.id]}" for node in drawn.nodes if node.critical)
    if critical:
        lines.append(f"  classDef critical stroke:{_CRITICAL},stroke-width:3px")
        lines.append(f"  class {critical} critical")
    if heavy:
        lines.append(f"  linkStyle {','.join(heavy)} stroke:{_CRITICAL}")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Text for a quoted Mermaid label: all but letters, digits and blanks as entity codes.

    >>> _mermaid('a "b" <i>')
    'a #34;b#34; #60;i#62;'
    """
    kept = " ,/'"  # a list, as in `1. a` or `- b`, would be refused
    return "".join(c if c.isalnum() or c in kept else f"#{ord(c)};" for c in printable(text))


# --- DOT ---


def dot_text(drawn: Picture) -> str:
    """A graph for Graphviz; nothing here needs it."""
    arrows, left_out = _arrows(drawn)
    title = drawn.title + f" ({left_out})" * bool(left_out)
    number = {node.id: n for n, node in enumerate(drawn.nodes)}
    nodes = {node.id: node for node in drawn.nodes}
    inside = {name for group in drawn.groups for name in group.nodes}
    lines = [
        "digraph plan {",
        f'  graph [rankdir=LR, fontname="Helvetica", label="{_dot(title)}", labelloc=t]',
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11]',
        '  edge [color="#666666"]',
    ]

    def node_line(node: Node, indent: str) -> str:
        label = "\\n".join(_dot(part) for part in _words(node, 40) if part)
        fill, stroke = _COLORS[node.state]
        more = ", shape=hexagon" if node.kind == "merge_point" else ""
        more += ", penwidth=3" if node.critical else ""
        line = _CRITICAL if node.critical else stroke
        return f'{indent}n{number[node.id]} [label="{label}", fillcolor="{fill}", color="{line}"{more}]'

    for n, group in enumerate(drawn.groups):
        lines.append(f"  subgraph cluster_{n} {{")
        lines.append(f'    label="{_dot(f"Batch {group.id} ({group.state})")}"; color="#bbbbbb"')
        lines += [node_line(nodes[name], "    ") for name in group.nodes]
        lines.append("  }")
    lines += [node_line(node, "  ") for node in drawn.nodes if node.id not in inside]
    for edge in arrows:
        how = f'color="{_CRITICAL}", penwidth=2' if edge.critical else ""
        how = how or ("style=dotted" if not edge.count else "")
        how += (", " * bool(how) + f'label="{edge.count}"') * (edge.count > 1)
        lines.append(f"  n{number[edge.from_]} -> n{number[edge.to]}" + f" [{how}]" * bool(how))
    return "\n".join([*lines, "}"]) + "\n"


def _dot(text: str) -> str:
    r"""Text for a quoted DOT string: no escape of its own, no entity.

    >>> print(_dot('a "b" \\N &amp;'))
    a \"b\" \\N &amp;amp;
    """
    return printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


# --- SVG ---

_BOX, _HIGH, _GAP, _ROW, _TOP, _SIDE = 168, 40, 56, 56, 66, 110  # in pixels
_CHARS = 24  # of a title that fit in a box


def svg_text(drawn: Picture) -> str:
    """The waves from left to right, a worktree a row, as SVG: no script, nothing from elsewhere."""
    columns = max((node.column for node in drawn.nodes), default=-1) + 1
    rows = max((node.lane for node in drawn.nodes), default=-1) + 1
    side = _SIDE if any(drawn.lanes) else 20
    width = side + max(columns, 1) * (_BOX + _GAP)
    height = _TOP + max(rows, 1) * _ROW + 50
    at = {
        node.id: (side + node.column * (_BOX + _GAP), _TOP + 14 + node.lane * _ROW)
        for node in drawn.nodes
    }
    arrows, left_out = _arrows(drawn)
    title = (drawn.title or "gitwaves") + f" ({left_out})" * bool(left_out)
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" role="img">'
        ),
        f"<title>{_xml(title)}</title>",
        *(
            f'<defs><marker id="arrow-{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{color}"/></marker></defs>'
            for name, color in (("plain", "#777777"), ("critical", _CRITICAL))
        ),
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _svg_text(16, 24, 15, title, bold=True),
    ]
    column_of = {node.id: node.column for node in drawn.nodes}
    for n, group in enumerate(drawn.groups):
        first = min(column_of[name] for name in group.nodes)
        last = max(column_of[name] for name in group.nodes)
        x, wide = side + first * (_BOX + _GAP) - 14, (last - first) * (_BOX + _GAP) + _BOX + 28
        fill = ("#f6f7f9", "#eceff3")[n % 2]
        lines.append(
            f'<rect x="{x}" y="36" width="{wide}" height="{height - 80}" rx="6" fill="{fill}"/>'
        )
        lines.append(_svg_text(x + 10, 55, 12, f"Batch {group.id} ({group.state})", bold=True))
    for lane, name in enumerate(drawn.lanes):
        lines.append(_svg_text(16, _TOP + 38 + lane * _ROW, 12, _fitting(name, 13)))
    edges = sorted(arrows, key=lambda edge: edge.critical)  # the critical path on top
    lines += [_svg_edge(edge, at[edge.from_], at[edge.to]) for edge in edges]
    for node in drawn.nodes:
        lines += _svg_node(node, *at[node.id])
    lines += _svg_legend(drawn, height)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _svg_node(node: Node, x: int, y: int) -> Iterator[str]:
    fill, stroke = _COLORS[node.state]
    line, wide = (_CRITICAL, "2.5") if node.critical else (stroke, "1")
    corner = _HIGH // 2 if node.kind == "merge_point" else 5
    first, second = _words(node, 200)
    yield f"<g><title>{_xml(f'{node.id} ({node.state}): {node.title} {node.note}'.strip())}</title>"
    yield (
        f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_HIGH}" rx="{corner}" fill="{fill}" '
        f'stroke="{line}" stroke-width="{wide}"/>'
    )
    indent = 10 + corner // 3
    yield _svg_text(x + indent, y + 17, 12, _fitting(first, _CHARS - 2), bold=True)
    yield _svg_text(x + indent, y + 32, 10, _fitting(second, _CHARS + 2))
    yield "</g>"


def _svg_edge(edge: Edge, start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _BOX, start[1] + _HIGH // 2
    x2, y2 = end[0], end[1] + _HIGH // 2
    bend = max((x2 - x1) // 2, 30)
    # along a row, over what stands between, which it would else seem to go through
    lift = 46 if y1 == y2 and x2 - x1 > _GAP else 0
    name, color, wide = ("critical", _CRITICAL, 2) if edge.critical else ("plain", "#777777", 1)
    dash = ' stroke-dasharray="3 3"' if not edge.count else ""
    return (
        f'<path d="M{x1} {y1}C{x1 + bend} {y1 - lift} {x2 - bend} {y2 - lift} {x2} {y2}" fill="none" '
        f'stroke="{color}" stroke-width="{wide}"{dash} marker-end="url(#arrow-{name})"/>'
    )


def _svg_legend(drawn: Picture, height: int) -> Iterator[str]:
    states = {node.state for node in drawn.nodes}
    x = 16
    for state in (state for state in _COLORS if state in states):
        fill, stroke = _COLORS[state]
        yield f'<rect x="{x}" y="{height - 28}" width="12" height="12" fill="{fill}" stroke="{stroke}"/>'
        yield _svg_text(x + 17, height - 18, 11, state)
        x += 30 + 7 * len(state)
    if any(node.critical for node in drawn.nodes):
        yield f'<path d="M{x} {height - 22}h20" stroke="{_CRITICAL}" stroke-width="3"/>'
        yield _svg_text(x + 26, height - 18, 11, "critical path")


def _svg_text(x: int, y: int, size: int, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}"{weight} fill="#222222">{_xml(text)}</text>'


def _xml(text: str) -> str:
    """Text for XML, in an element or an attribute.

    >>> _xml('<script>"&')
    '&lt;script&gt;&quot;&amp;'
    """
    return html.escape(printable(text))


def _fitting(text: str, most: int) -> str:
    """As much of a text as fits in `most` columns, a wide character counted as two."""
    used = 0
    for n, c in enumerate(text):
        used += 2 if unicodedata.east_asian_width(c) in "WF" else 1
        if used > most:
            return text[: max(n - 1, 1)].rstrip() + "…"
    return text


FORMATS: dict[str, Callable[[Picture], str]] = {
    "ascii": ascii_text,
    "mermaid": mermaid_text,
    "dot": dot_text,
    "svg": svg_text,
}
