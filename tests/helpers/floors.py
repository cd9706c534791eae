"""The map of the house: which part stands on which floor, what imports what, and a drawing of it.

``python tests/helpers/floors.py`` draws ``docs/floors.svg``.
"""

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]

FLOORS = (  # from the ground: parts, and what lives there
    (
        "xp module backend graph errors settings settings_reference initializers execution capabilities",
        "arrays, modules",
    ),
    ("ops setting_types", "pure functions of arrays; kinds of settings"),
    ("nn", "layers, their layout in files, tables"),
    ("dpa2", "the descriptor, and all else that names its blocks"),
    ("model", "fitting heads, the model, forces and virial"),
    ("io", "files of models, and the one way into HDF5 and .npy"),
    ("data", "neighbor lists, readers, batches (NumPy)"),
    ("statistics", "environments, neighbors and output bias of training data"),
    ("accuracy domains memory prediction progress evaluator relax", "a model asked about structures"),
    ("edit testing", "models made from one; the conformance kit"),
    ("train export dpmodel_numpy dpmodel_torch dpmodel_jax dpmodel_paddle", "training; programs; the backends"),
    ("cli __main__ engines dpmodel editing potential", "what users see"),
)
BACKENDS = ("dpmodel_numpy", "dpmodel_torch", "dpmodel_jax", "dpmodel_paddle")
TOGETHER = {  # files that the drawing shows as one
    "core": tuple(FLOORS[0][0].split()),
    "backends": BACKENDS,
    "evaluator": ("domains", "memory", "prediction", "progress", "evaluator"),
    "dpmodel": ("dpmodel", "editing"),
    "cli": ("cli", "__main__"),
}
FLOOR = {
    part if part.startswith("dpmodel") else f"dpmodel.{part}": floor
    for floor, (parts, _) in enumerate(FLOORS)
    for part in parts.split()
}


def sources() -> dict[str, Path]:
    """The file of every module of the core and of the backends."""
    files = [(ROOT, p) for p in ROOT.glob("dpmodel/**/*.py")]
    files += [(ROOT / "backends", p) for p in ROOT.glob("backends/*/**/*.py")]
    names = {".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): p for root, p in files}
    return dict(sorted(names.items()))


def imports(path: Path) -> Iterator[str]:
    """Full names of everything that a file imports, inside functions too: ``dpmodel.xp.namespace``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str:
    """The part of the map that ``name`` belongs to: the longest that begins it; empty for what is not ours."""
    owners = [p for p in FLOOR if name == p or name.startswith(f"{p}.")]
    return max(owners, key=len, default="")


# The drawing

WIDTH, ROW, BOX = 1000, 62, 34
STYLE = """
  .f { fill: #f5f6fb } .b { fill: #e8eaf6; stroke: #3f51b5; stroke-width: 1.5 }
  .t { font: 15px sans-serif; fill: #1a237e; text-anchor: middle } .s { font: 12px sans-serif; fill: #37474f }
  .a { stroke: #90a4ae; stroke-width: 1.4; fill: none; marker-end: url(#m) } .bg { fill: #ffffff }
"""
Edges = dict[str, set[str]]


def shown(part: str) -> str:
    """The box of a part in the drawing."""
    name = part.removeprefix("dpmodel.")
    return next((box for box, parts in TOGETHER.items() if name in parts), name)


def edges() -> Edges:
    """The boxes that each box imports, without those that it reaches through another one."""
    uses: Edges = {shown(part): set() for part in FLOOR}
    for module, path in sources().items():
        box = shown(part_of(module))
        uses[box] |= {shown(part) for name in imports(path) if (part := part_of(name))} - {box}
    return {box: {low for low in lows if not _reached(uses, lows - {low}, low)} for box, lows in uses.items()}


def _reached(uses: Edges, starts: set[str], end: str) -> bool:
    return any(end in uses[box] or _reached(uses, uses[box], end) for box in starts)


def drawing() -> str:
    """The floors as SVG, the ground at the bottom; an arrow is an import that no other arrows imply."""
    centers: dict[str, tuple[int, int]] = {}
    lines = []
    for floor, (parts, words) in enumerate(FLOORS):
        y = 20 + (len(FLOORS) - 1 - floor) * ROW
        lines.append(f'<rect class="f" x="10" y="{y - 6}" width="{WIDTH - 20}" height="{ROW - 8}" rx="6"/>')
        lines.append(f'<text class="s" x="24" y="{y + 24}">{floor}</text>')
        lines.append(f'<text class="s" x="590" y="{y + 24}">{escape(words)}</text>')
        boxes = list(dict.fromkeys(shown(part) for part in parts.split()))
        step = 530 / len(boxes)
        centers |= {box: (round(45 + step * (i + 0.5)), y) for i, box in enumerate(boxes)}
    for box, lows in sorted(edges().items()):
        x, y = centers[box]
        for low in sorted(lows):
            u, v = centers[low]
            lines.append(f'<path class="a" d="{_arrow(x, y, u, v, 0.5 * _width(box), 0.5 * _width(low))}"/>')
    for box, (x, y) in centers.items():
        width = _width(box)
        lines.append(f'<rect class="b" x="{x - width / 2:.0f}" y="{y}" width="{width}" height="{BOX}" rx="6"/>')
        lines.append(f'<text class="t" x="{x:.0f}" y="{y + 22}">{box}</text>')
    height = 20 + len(FLOORS) * ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    marker = '<marker id="m" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    arrow = f'<defs>{marker}<path d="M0 0 L8 4 L0 8 z" fill="#90a4ae"/></marker></defs>'
    title = "<title>The floors of dpmodel, and what imports what</title>"
    body = "\n".join([title, f"<style>{STYLE}</style>", arrow, f'<rect class="bg" width="{WIDTH}" height="{height}"/>'])
    return "\n".join([head, body, *lines, "</svg>", ""])


def _arrow(x: float, y: float, u: float, v: float, half: float, other_half: float) -> str:
    """A line down from a box at (x, y) to one at (u, v), or over the roofs to one on the same floor."""
    if v != y:
        return f"M{x:.0f} {y + BOX} L{u:.0f} {v:.0f}"
    side = 1 if u > x else -1
    if abs(u - x) - half - other_half < 200:
        return f"M{x + side * half:.0f} {y + BOX / 2:.0f} L{u - side * other_half:.0f} {y + BOX / 2:.0f}"
    return f"M{x:.0f} {y} Q{(x + u) / 2:.0f} {y - 26} {u:.0f} {y}"


def _width(box: str) -> int:
    return 30 + 8 * len(box)


if __name__ == "__main__":
    (ROOT / "docs" / "floors.svg").write_text(drawing(), encoding="utf-8")
