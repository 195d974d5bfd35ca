"""What decides a result: the code that computes it, and the releases of the libraries below that code.

`code_of(thing)` follows a function or class to every function, class and constant that it reaches, of this project or
of a user's own modules. What is not reached does not count, nor do comments, docstrings, layout and import lines. The
walk stops at

    a Registry       whoever uses one of its entries names that entry;
    a Keyed class    its objects have keys of their own, which count instead;
    MACHINERY        modules that keep results, refuse bad input or read data sets, whose content is hashed as such.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jsigr_lib.method.registry import Registry
from jsigr_lib.store import sources
from jsigr_lib.store.syntax import imports_in, names_in, surroundings, syntax_of, tree_of, written

PACKAGE = __name__.partition(".")[0]
MACHINERY = ("data.sources", "method.errors", "method.registry", "store.")
LIBRARIES = {name: name for name in ("torch", "torchvision", "numpy", "scipy", "captum", "pyautoattack")}
LIBRARIES["PIL"] = "pillow"
"""Module -> distribution, of the libraries that decide numbers."""

PLAIN = (bool, int, float, complex, str, bytes, type(None), range, slice)


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
    one of them cannot be found, or was edited since it was read."""
    walk = _Walk()
    for thing in things:
        walk.follow(thing)
    sources.unedited()
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
        node = syntax_of(thing)
        self.found[_file(home)].add(f"{thing.__qualname__}: {written(node)}")
        around = surroundings(thing)
        for name, chains in names_in(node).items():
            for chain in chains if name in around else ():
                self.chain(around[name], home, name, chain)
        for value, name in imports_in(node, home):
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
            self.found[_file(module.__name__)].add(written(tree_of(module.__file__)))

    def of_library(self, thing: Any, module: str, name: str) -> None:
        """Count something of a library: which one it is or, of a tensor or an array, what it holds; and the release."""
        kind = thing if hasattr(thing, "__qualname__") else type(thing)
        array = thing.detach().cpu().numpy() if isinstance(thing, torch.Tensor) else thing
        content = _sha([array.tobytes().hex()]) if hasattr(array, "tobytes") else ""
        home = kind.__module__ or "builtins"
        if (top := _library(home)) in LIBRARIES:
            self.libraries.add(LIBRARIES[top])
        place = home.partition("._")[0] if top in sys.stdlib_module_names else home  # pathlib._local since Python 3.13
        self.found[_file(module)].add(f"{name} is {place}.{kind.__qualname__} {content}")


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
            chains = names_in(syntax_of(value))
            names += [chain[0] for me in ("self", "cls") for chain in chains.get(me, ()) if chain]


def _file(module: str) -> str:
    return module.rpartition(".")[2]


def _decides_nothing(module: str) -> bool:
    return module.startswith(tuple(f"{PACKAGE}.{name}" for name in MACHINERY))


@functools.cache
def _library(module: str) -> str:
    """The top-level name of a library's module; "" for this project and for a user's own modules."""
    top = module.partition(".")[0]
    if top in (PACKAGE, "__main__", *(own.partition(".")[0] for own in sources.OWN)):
        return ""
    file = getattr(sys.modules.get(top), "__file__", None)  # None for what is built in
    installed = file is None or {"site-packages", "dist-packages"} & {*Path(file).parts}
    return top if installed or top in sys.stdlib_module_names or top in LIBRARIES else ""


@functools.cache
def _release(distribution: str) -> str:
    """What the library says of itself where it can ("2.14.1+cu130"), or else what was installed."""
    module = next(name for name in LIBRARIES if LIBRARIES[name] == distribution)
    return getattr(importlib.import_module(module), "__version__", None) or importlib.metadata.version(distribution)


def _sha(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
