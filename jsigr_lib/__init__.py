"""J-SIGR: Jacobian norm with selective input-gradient regularisation, an independent reconstruction.

All that a user of the method needs, and it needs torch alone:

    from jsigr_lib import JSIGR, perturbation_saliency, selection_mask, jacobian_norm, attacks
"""

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
