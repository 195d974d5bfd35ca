"""Which district imports which: `python tools/arrows.py` prints the graph, and fails if an arrow does not point down or
modules import each other in a circle. Imports inside functions and for type checkers count too."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "jsigr_lib"
FACE = "(the face)"  # jsigr_lib/__init__.py
TOP = "(the command)"  # every other file beside it
LEVELS = (  # from the ground up; districts of one level do not import each other
    ("method",),
    (FACE,),
    ("store",),
    ("measure",),
    ("data",),
    ("networks",),
    ("records",),
    ("study",),
    ("findings",),
    ("explorer", "figures"),
    ("pipeline", "site", "theory"),
    (TOP,),
)

Graph = dict[str, set[str]]


def graph(package: Path = PACKAGE) -> Graph:
    """Module -> the modules of the same package that it imports. A district is the module of its __init__.py."""
    paths = {_module(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: set(_imported(path, paths.keys(), package.name)) - {name} for name, path in paths.items()}


def _module(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, modules: set[str], package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"{path}:{node.lineno}: a relative import; accepted: from {package}...")
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{one.name}" for one in node.names]
        for name in names:
            while name not in modules and "." in name:  # a function of a module
                name = name.rpartition(".")[0]
            if name in modules:
                yield name


def district(module: str) -> str:
    parts = module.split(".")
    known = {name for level in LEVELS for name in level}
    if len(parts) == 1:
        return FACE
    if len(parts) > 2 or parts[1] in known:
        return parts[1]
    return TOP


def wrong(found: Graph) -> list[tuple[str, str]]:
    """Arrows from a module to one of another district that is not below its own."""
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    arrows = ((a, b) for a, imported in found.items() for b in imported if district(a) != district(b))
    return sorted((a, b) for a, b in arrows if level[district(a)] <= level[district(b)])


def circles(found: Graph) -> list[list[str]]:
    """Modules that import each other, in groups."""
    reached = {name: _reached(name, found) for name in found}
    groups = {tuple(sorted(b for b in reached[a] if a in reached[b])) for a in found if a in reached[a]}
    return [list(group) for group in sorted(groups)]


def _reached(start: str, found: Graph) -> set[str]:
    seen, left = set(), [start]
    while left:
        new = found[left.pop()] - seen
        seen |= new
        left.extend(new)
    return seen


def main(quiet: bool, package: Path = PACKAGE) -> int:
    """Print the districts from the top down, and what is wrong; 1 if anything is."""
    found = graph(package)
    below = defaultdict(set)
    for a, imported in found.items():
        below[district(a)] |= {district(b) for b in imported} - {district(a)}
    if not quiet:
        order = [name for level in LEVELS for name in level]
        for name in reversed([name for name in order if name in below]):
            print(f"{name:14} -> {', '.join(sorted(below[name], key=order.index, reverse=True)) or 'nothing'}")
        print(f"{len(found)} modules, {sum(map(len, below.values()))} arrows between districts")
    problems = [f"{a} imports {b}, which is not below it" for a, b in wrong(found)]
    problems += [f"a circle: {', '.join(group)}" for group in circles(found)]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main("--quiet" in sys.argv))
