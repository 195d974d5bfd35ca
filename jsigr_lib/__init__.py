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
_HOMES = {
    "errors": ["InputError"],
    "jacobian": ["jacobian_norm"],
    "jsigr": ["JSIGR", "Objective"],
    "saliency": ["Selection", "perturbation_saliency", "selection_mask"],
}


def __getattr__(name: str) -> Any:
    """Import the method when it is asked for: `jsigr --help` needs no torch."""
    if name in ("attacks", "defences"):
        return import_module(f"{__name__}.{name}")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
