"""Artefacts by key: their files and the engine that makes them. It knows no science."""
