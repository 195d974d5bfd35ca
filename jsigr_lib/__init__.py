"""J-SIGR: Jacobian norm with selective input-gradient regularisation, an independent reconstruction.

All that a user of the method needs:

    from jsigr_lib import JSIGR, perturbation_saliency, selection_mask, jacobian_norm, attacks

Each name is imported when it is first asked for: `jsigr --help` does not wait for torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsigr_lib import attacks
    from jsigr_lib.errors import InputError
    from jsigr_lib.jacobian import jacobian_norm
    from jsigr_lib.objectives import JSIGR
    from jsigr_lib.saliency import Selection, perturbation_saliency, selection_mask

__version__ = version("jsigr")
__all__ = ["JSIGR", "InputError", "Selection", "attacks", "jacobian_norm", "perturbation_saliency", "selection_mask"]
_MODULES = {
    "JSIGR": "objectives",
    "InputError": "errors",
    "Selection": "saliency",
    "jacobian_norm": "jacobian",
    "perturbation_saliency": "saliency",
    "selection_mask": "saliency",
}


def __getattr__(name: str) -> Any:
    if name == "attacks":
        return import_module("jsigr_lib.attacks")
    if name in _MODULES:
        return getattr(import_module(f"jsigr_lib.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
