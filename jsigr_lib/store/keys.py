"""What decides a result: the code that computes it, and the releases of the libraries below that code.

`code_of(thing)` follows a function or class to every function, class and constant that it reaches, of this project or
of a user's own modules. What is not reached does not count, nor do comments, docstrings, layout and import lines. The
walk stops at

    a Registry       whoever uses one of its entries names that entry;
    a Keyed class    its objects have keys of their own, which count instead;
    MACHINERY        modules that keep results, refuse bad input or read data sets, whose content is hashed as such.
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import linecache
import symtable
import sys
import sysconfig
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.method.registry import Registry

PACKAGE = __name__.partition(".")[0]
MACHINERY = ("data.sources", "method.errors", "method.registry", "store.")
LIBRARIES = {name: name for name in ("torch", "torchvision", "numpy", "scipy", "captum", "pyautoattack")}
LIBRARIES["PIL"] = "pillow"
"""Module -> distribution, of the libraries that decide numbers."""

PLAIN = (bool, int, float, complex, str, bytes, type(None), range, slice)
UNWRITTEN = ("annotation", "returns", "kind", "type_comment", "type_params")
"""Fields of syntax trees that decide nothing; the last three differ between versions of Python."""


class Keyed:
    """A class whose objects have a key of their own."""


class Code(NamedTuple):
    """`digest` is a hash over everything reached, wherever it stands. `files` (file name -> hash) and `libraries`
    (name -> release) say which part of it changed."""

    digest: str
    files: dict[str, str]
    libraries: dict[str, str]


def code_of(*things: Any) -> Code:
    """The code that `things` (functions, classes, or objects with settings) reach. Raises InputError if the source of
    one of them cannot be found."""
    walk = _Walk()
    for thing in things:
        walk.follow(thing)
    everything = sorted(text for texts in walk.found.values() for text in texts)
    files = {name: _sha(sorted(texts))[:16] for name, texts in sorted(walk.found.items())}
    return Code(_sha(everything), files, {name: _release(name) for name in sorted(walk.libraries)})


class _Walk:
    """What was reached so far: by file, the text of every definition and constant; and the libraries."""

    def __init__(self):
        self.found: defaultdict[str, set[str]] = defaultdict(set)
        self.libraries: set[str] = set()
        self.seen: dict[int, Any] = {}  # by id; holding the object keeps its id from being used again

    def follow(self, value: Any, module: str = "", name: str = "") -> None:
        """Count an object that `module` calls `name`; without a module, it is one that was asked for."""
        if isinstance(value, (Registry, Keyed)) or (inspect.isclass(value) and issubclass(value, Keyed)):
            return
        if isinstance(value, PLAIN):
            self.found[_file(module)].add(f"{name} = {value!r}")
        elif id(value) not in self.seen:
            self.seen[id(value)] = value
            self._follow_into(value, module, name)

    def _follow_into(self, value: Any, module: str, name: str) -> None:
        code = inspect.unwrap(value) if callable(value) else None
        if isinstance(value, types.ModuleType):
            self.module(value)
        elif inspect.isclass(code) or isinstance(code, types.FunctionType):
            self.definition(code, module, name)
        elif isinstance(value, (dict, list, tuple, set, frozenset)):
            parts = value.items() if isinstance(value, dict) else value
            for i, part in enumerate(sorted(parts, key=repr) if isinstance(value, (set, frozenset)) else parts):
                self.follow(part, module or "settings", f"{name}.{i}")
        elif isinstance(value, functools.partial):
            self.follow((value.func, value.args, value.keywords), value.func.__module__, f"{name}(...)")
        elif inspect.ismethod(value):
            self.follow((value.__func__, value.__self__), value.__module__, name)
        elif not _library(type(value).__module__):  # such as the settings of an attack
            self.follow((type(value), getattr(value, "__dict__", ())), type(value).__module__, name)
        elif hasattr(value, "state_dict"):
            self.follow(value.state_dict(), module, name)
        else:
            self.of_library(value, module, name)

    def definition(self, thing: Any, module: str, name: str) -> None:
        """Count a function or class, and all that its code names."""
        home = thing.__module__
        if _decides_nothing(home):
            return
        if module and _library(home):
            self.of_library(thing, module, name)
            return
        node = _syntax(thing)
        self.found[_file(home)].add(f"{thing.__qualname__}: {_written(node)}")
        around = _surroundings(thing)
        for name, chains in _names(node).items():
            for chain in chains if name in around else ():
                self.chain(around[name], home, name, chain)
        for value, name in _imports(node, home):
            self.follow(value, home, name)

    def chain(self, value: Any, module: str, name: str, attributes: tuple[str, ...]) -> None:
        """Count `name.a.b`: of a module only what is used of it."""
        for attribute in attributes:
            if not isinstance(value, types.ModuleType) or _library(value.__name__) or not hasattr(value, attribute):
                break
            value, name = getattr(value, attribute), attribute
        self.follow(value, module, name)

    def module(self, module: types.ModuleType) -> None:
        """Count a whole module: of a library its release, of ours its text."""
        if top := _library(module.__name__):
            self.libraries |= {LIBRARIES[top]} if top in LIBRARIES else set()
        elif not _decides_nothing(module.__name__):
            self.found[_file(module.__name__)].add(_written(_tree(module.__file__)))

    def of_library(self, thing: Any, module: str, name: str) -> None:
        """Count something of a library: which one it is or, of a tensor or an array, what it holds; and the release."""
        kind = thing if hasattr(thing, "__qualname__") else type(thing)
        array = thing.detach().cpu().numpy() if isinstance(thing, torch.Tensor) else thing
        content = _sha([array.tobytes().hex()]) if hasattr(array, "tobytes") else ""
        self.found[_file(module)].add(f"{name} is {kind.__module__}.{kind.__qualname__} {content}")
        if (top := _library(kind.__module__ or "builtins")) in LIBRARIES:
            self.libraries.add(LIBRARIES[top])


def methods_of(kind: type, start: str) -> Iterator[Any]:
    """The function `start` of a class, and whatever of `self` it uses, and so on: functions, and constants of the
    class."""
    names, seen = [start], set()
    while names:
        name = names.pop()
        owner = next((base for base in kind.__mro__ if name in vars(base)), None)
        if name in seen or owner is None or _decides_nothing(owner.__module__) or _library(owner.__module__):
            continue
        seen.add(name)
        value = vars(owner)[name]
        value = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
        yield value
        if isinstance(value, types.FunctionType):
            chains = _names(_syntax(value))
            names += [chain[0] for me in ("self", "cls") for chain in chains.get(me, ()) if chain]


def _names(node: ast.AST) -> dict[str, set[tuple[str, ...]]]:
    """Name -> the chains of attributes that it is used with, () if it is used bare. Local variables are left out,
    but for `self` and `cls`."""
    table = symtable.symtable(ast.unparse(node), "", "exec")
    wanted, found, inner = {*_global(table), "self", "cls"}, defaultdict(set), set()
    for one in _running(node):
        chain, base = [], one
        while isinstance(base, ast.Attribute):
            inner.add(id(base.value))
            chain, base = [base.attr, *chain], base.value
        if isinstance(base, ast.Name) and base.id in wanted and id(one) not in inner:
            found[base.id].add(tuple(chain))
    return found


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every part of a syntax tree that runs, the outer ones first."""
    yield node
    for name, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST) and name not in UNWRITTEN:
                yield from _running(part)


def _global(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _global(inner)


def _imports(node: ast.AST, home: str) -> Iterator[tuple[Any, str]]:
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


def _surroundings(thing: Any) -> dict[str, Any]:
    """What the names in a function or class mean: the globals of its module, and the variables around it."""
    around = dict(vars(sys.modules[thing.__module__])) if thing.__module__ in sys.modules else {}
    for function in _functions(thing):
        around |= function.__globals__
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            around |= {name: cell.cell_contents} if name != "__class__" else {}
    return around


def _syntax(thing: Any) -> ast.AST:
    """Where a function or class is written, as a syntax tree. Raises InputError if that cannot be found."""
    codes = [function.__code__ for function in _functions(thing)]
    own = [getattr(sys.modules.get(thing.__module__), "__file__", None)] if inspect.isclass(thing) else []
    for file in filter(None, [*own, *(code.co_filename for code in codes)]):
        here = [code for code in codes if code.co_filename == file]
        for node in ast.walk(_tree(file)):
            if getattr(node, "name", "<lambda>") == thing.__qualname__.rpartition(".")[2] and _is_source(node, here):
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


def _functions(thing: Any) -> list[types.FunctionType]:
    """A function itself; of a class its methods."""
    parts = [thing] if isinstance(thing, types.FunctionType) else map(inspect.unwrap, vars(thing).values())
    return [part for part in parts if isinstance(part, types.FunctionType)]


@functools.cache
def _tree(file: str) -> ast.Module:
    return ast.parse("".join(linecache.getlines(file)))


def _written(node: Any) -> str:
    """A syntax tree as text, without docstrings, annotations and imports, the same in every version of Python."""
    if isinstance(node, list):
        return f"[{', '.join(_written(one) for one in node if not _mute(one))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in UNWRITTEN]
    written = [f"{name}={_written(value)}" for name, value in fields if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(written)})"


def _mute(node: Any) -> bool:
    """Whether a statement does nothing but say something or import."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text or isinstance(node, (ast.Import, ast.ImportFrom))


def _file(module: str) -> str:
    return module.rpartition(".")[2]


def _decides_nothing(module: str) -> bool:
    return module.startswith(tuple(f"{PACKAGE}.{name}" for name in MACHINERY))


@functools.cache
def _library(module: str) -> str:
    """The top-level name of a library's module; "" for this project and for a user's own modules."""
    top = module.partition(".")[0]
    if top == PACKAGE or top == "__main__":
        return ""
    if top in sys.stdlib_module_names:
        return top
    file = getattr(sys.modules.get(top), "__file__", None)
    places = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    return top if file is None or places & {*Path(file).parents} else ""


@functools.cache
def _release(distribution: str) -> str:
    """What the library says of itself where it can ("2.14.1+cu130"), or else what was installed."""
    module = next(name for name in LIBRARIES if LIBRARIES[name] == distribution)
    return getattr(importlib.import_module(module), "__version__", None) or importlib.metadata.version(distribution)


def _sha(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
