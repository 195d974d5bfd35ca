"""J-SIGR: Jacobian norm with selective input-gradient regularisation, an independent reconstruction.

All that a user of the method needs, and it needs torch alone:

    from jsigr_lib import JSIGR, perturbation_saliency, selection_mask, jacobian_norm, attacks

Each name is imported when it is first asked for: `jsigr --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsigr_lib.method import attacks, defences
    from jsigr_lib.method.errors import InputError
    from jsigr_lib.method.jacobian import jacobian_norm
    from jsigr_lib.method.jsigr import JSIGR
    from jsigr_lib.method.objective import Objective
    from jsigr_lib.method.saliency import Selection, perturbation_saliency, selection_mask

__version__ = "0.1.0"  # the only place; pyproject.toml reads it here
__all__ = [
    "JSIGR",
    "InputError",
    "Objective",
    "Selection",
    "attacks",
    "attributions",
    "defences",
    "jacobian_norm",
    "perturbation_saliency",
    "pretrained",
    "selection_mask",
]
MODULES = {"attacks": "method", "defences": "method", "attributions": "measure"}
MEMBERS = {"InputError": "errors", "jacobian_norm": "jacobian", "JSIGR": "jsigr", "Objective": "objective"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "pretrained":
        with import_module("jsigr_lib.method.errors").needs_extra("jsigr_lib.pretrained", "study"):
            return import_module("jsigr_lib.explorer.pretrained")
    if name in MODULES:
        return import_module(f"jsigr_lib.{MODULES[name]}.{name}")
    return getattr(import_module(f"jsigr_lib.method.{MEMBERS.get(name, 'saliency')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
