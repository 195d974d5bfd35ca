"""J-SIGR: Jacobian norm with selective input-gradient regularisation, an independent reconstruction.

All that a user of the method needs, and it needs torch alone:

    from jsigr_lib import JSIGR, perturbation_saliency, selection_mask, jacobian_norm, attacks
"""

from importlib import import_module
from types import ModuleType

from jsigr_lib import attacks, defences
from jsigr_lib.errors import InputError, needs_extra
from jsigr_lib.jacobian import jacobian_norm
from jsigr_lib.jsigr import JSIGR, Objective
from jsigr_lib.saliency import Selection, perturbation_saliency, selection_mask

__version__ = "0.1.0"  # the only place; pyproject.toml reads it here
__all__ = [
    "JSIGR",
    "InputError",
    "Objective",
    "Selection",
    "attacks",
    "defences",
    "jacobian_norm",
    "perturbation_saliency",
    "selection_mask",
]
BEYOND_THE_METHOD = {"attributions": "measure", "flags": "measure", "pretrained": "study"}
"""Modules that are imported when they are first asked for, each with the extra that it needs."""


def __getattr__(name: str) -> ModuleType:
    if name not in BEYOND_THE_METHOD:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra(f"jsigr_lib.{name}", BEYOND_THE_METHOD[name]):
        return import_module(f"jsigr_lib.{name}")
