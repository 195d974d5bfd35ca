"""Artefacts by key: their files and the engine that makes them. It knows no science."""

from jsigr_lib.store import sources  # noqa: F401  first of all: what the files of the library are like
