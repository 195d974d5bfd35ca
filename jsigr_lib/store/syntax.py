"""Code as syntax trees: where a function or class is written, what it names, and its text without what does not run."""

import ast
import functools
import importlib
import inspect
import linecache
import os
import symtable
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.store.sources import EDITED

UNWRITTEN = ("annotation", "returns", "kind", "type_comment", "type_params")
"""Fields of syntax trees that decide nothing; the last three differ between versions of Python."""


def names_in(node: ast.AST) -> dict[str, set[tuple[str, ...]]]:
    """Name -> the chains of attributes that it is used with, () if it is used bare. Local variables are left out,
    but for `self` and `cls`."""
    text = ast.unparse(node).replace("nonlocal ", "global ")  # an inner function, alone, has nothing around it
    table = symtable.symtable(text, "", "exec")
    wanted, found, inner = {*_global(table), "self", "cls"}, defaultdict(set), set()
    for one in running(node):
        chain, base = [], one
        while isinstance(base, ast.Attribute):
            inner.add(id(base.value))
            chain, base = [base.attr, *chain], base.value
        if isinstance(base, ast.Name) and base.id in wanted and id(one) not in inner:
            found[base.id].add(tuple(chain))
    return found


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every part of a syntax tree that runs, the outer ones first."""
    yield node
    for name, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST) and name not in UNWRITTEN:
                yield from running(part)


def _global(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _global(inner)


def imports_in(node: ast.AST, home: str) -> Iterator[tuple[Any, str]]:
    """What a function imports when it runs."""
    package = home if hasattr(sys.modules.get(home), "__path__") else home.rpartition(".")[0]
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            yield from ((importlib.import_module(alias.name), alias.name) for alias in one.names)
        elif isinstance(one, ast.ImportFrom):
            source = importlib.import_module("." * one.level + (one.module or ""), package)
            for alias in one.names:
                if not hasattr(source, alias.name):
                    importlib.import_module(f"{source.__name__}.{alias.name}")
                yield getattr(source, alias.name), alias.name


def surroundings(thing: Any) -> dict[str, Any]:
    """What the names in a function or class mean: the globals of its module, and the variables around it."""
    around = dict(vars(sys.modules[thing.__module__])) if thing.__module__ in sys.modules else {}
    for function in functions_of(thing):
        around |= function.__globals__
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            around |= {name: cell.cell_contents} if name != "__class__" else {}
    return around


def syntax_of(thing: Any) -> ast.AST:
    """Where a function or class is written, as a syntax tree. Raises InputError if that cannot be found, or says
    something else than what runs."""
    codes = [function.__code__ for function in functions_of(thing)]
    own = [getattr(sys.modules.get(thing.__module__), "__file__", None)] if inspect.isclass(thing) else []
    for file in filter(None, [*own, *(code.co_filename for code in codes)]):
        here = [code for code in codes if code.co_filename == file]
        for node in ast.walk(tree_of(file)):
            if getattr(node, "name", "<lambda>") == thing.__qualname__.rpartition(".")[2] and _is_source(node, here):
                if os.path.isfile(file) and not compiled(file).issuperset(here):  # a notebook's cell is no file
                    raise InputError(f"{file} {EDITED}")
                return node
    raise InputError(
        f"the source of {shown(thing)} cannot be found, so that nothing could tell its results from another's; "
        "accepted: a function or class that is written in a file or a notebook"
    )


def _is_source(node: ast.AST, codes: list[types.CodeType]) -> bool:
    """Whether the code of a function, or of a class's methods, was made from this piece of a file."""
    if isinstance(node, ast.ClassDef):
        return not codes or any(node.lineno <= code.co_firstlineno <= node.end_lineno for code in codes)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return bool(codes) and codes[0].co_firstlineno == min(one.lineno for one in (node, *node.decorator_list))
    starts = {(line, column) for line, _, column, _ in codes[0].co_positions()} if codes else set()
    return isinstance(node, ast.Lambda) and (node.body.lineno, node.body.col_offset) in starts


def functions_of(thing: Any) -> list[types.FunctionType]:
    """A function itself; of a class its methods."""
    parts = [thing] if isinstance(thing, types.FunctionType) else map(inspect.unwrap, vars(thing).values())
    return [part for part in parts if isinstance(part, types.FunctionType)]


@functools.cache
def compiled(file: str) -> set[types.CodeType]:
    """The code of every function in a file, made from the text that `tree_of` has."""
    found, left = set(), [compile(tree_of(file), file, "exec", dont_inherit=True)]
    while left:
        inner = [part for part in left.pop().co_consts if isinstance(part, types.CodeType)]
        found.update(inner)
        left += inner
    return found


@functools.cache
def tree_of(file: str) -> ast.Module:
    return ast.parse("".join(linecache.getlines(file)))


def written(node: Any) -> str:
    """A syntax tree as text, without docstrings, annotations and imports, the same in every version of Python."""
    if isinstance(node, list):
        return f"[{', '.join(written(one) for one in node if not _mute(one))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):  # to which Python 3.12 may add empty texts
        return f"JoinedStr(values={written([part for part in node.values if getattr(part, 'value', None) != ''])})"
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in UNWRITTEN]
    parts = [f"{name}={written(value)}" for name, value in fields if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(parts)})"


def _mute(node: Any) -> bool:
    """Whether a statement does nothing but say something or import."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text or isinstance(node, (ast.Import, ast.ImportFrom))
