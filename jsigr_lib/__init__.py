"""J-SIGR: Jacobian norm with selective input-gradient regularisation, an independent reconstruction.

All that a user of the method needs, and it needs torch alone:

    from jsigr_lib import JSIGR, perturbation_saliency, selection_mask, jacobian_norm, attacks

Each name is imported when it is first asked for: `jsigr --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsigr_lib import attacks, defences
    from jsigr_lib.errors import InputError
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
METHOD = {
    "JSIGR": "jsigr",
    "InputError": "errors",
    "Objective": "jsigr",
    "Selection": "saliency",
    "jacobian_norm": "jacobian",
    "perturbation_saliency": "saliency",
    "selection_mask": "saliency",
}
"""Name -> its module. What is asked for is imported then, so that `jsigr --help` needs no torch."""
MODULES = {"attacks": "", "defences": "", "attributions": "measure", "flags": "measure", "pretrained": "study"}
"""Module -> the extra that it needs."""


def __getattr__(name: str) -> Any:
    if name in METHOD:
        return getattr(import_module(f"jsigr_lib.{METHOD[name]}"), name)
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not MODULES[name]:
        return import_module(f"jsigr_lib.{name}")
    errors = import_module("jsigr_lib.errors")
    with errors.needs_extra(f"jsigr_lib.{name}", MODULES[name]):
        return import_module(f"jsigr_lib.{name}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
