"""J-SIGR: Jacobian norm with selective input-gradient regularisation, an independent reconstruction.

All that a user of the method needs:

    from jsigr_lib import JSIGR, perturbation_saliency, selection_mask, jacobian_norm, attacks
"""

from importlib.metadata import version

from jsigr_lib import attacks
from jsigr_lib.errors import InputError
from jsigr_lib.jacobian import jacobian_norm
from jsigr_lib.objectives import JSIGR
from jsigr_lib.saliency import Selection, perturbation_saliency, selection_mask

__version__ = version("jsigr")
__all__ = ["JSIGR", "InputError", "Selection", "attacks", "jacobian_norm", "perturbation_saliency", "selection_mask"]
