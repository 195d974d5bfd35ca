"""Policy distillation with input-gradient penalties: DIGR (Xing et al. 2022, arXiv 2205.08685, of which we have the
abstract), its special cases, and with the Jacobian norm J-SIGR's counterpart of it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.autograd import differentiable_twice
from jsigr_lib.method.checks import images_of, logits_of
from jsigr_lib.method.errors import between
from jsigr_lib.method.jacobian import jacobian_norms, squared_norm, vjp
from jsigr_lib.method.shapes import Float, Images, Maps


@dataclass(frozen=True)
class Distillation:
    """The student's loss, with z its logits, z_T the teacher's, a = argmax z_T, and m the teacher's selection:

        L = mean KL(p_T || p) + lambda_s mean ||(1 - m) * dz_a/ds||_2^2 + lambda_j mean ||J||_F^2.

    lambda_j = 0 is DIGR; with m = 0, too, plain input-gradient regularisation; both weights 0, distillation alone. The
    penalty is on the action's logit: the gradient of the KL vanishes where student and teacher agree, which is where a
    student begins that takes its teacher's weights. Units: states in [0, 1]; squared norms without 1/2.

    Raises InputError for a weight out of range.
    """

    lambda_s: float = 0.0
    lambda_j: float = 0.0

    def __post_init__(self):
        between("lambda_s", self.lambda_s, 0, 1e6)
        between("lambda_j", self.lambda_j, 0, 1e6)

    def __call__(
        self,
        student: nn.Module,
        states: Images,
        taught: Float[Tensor, "batch actions"],
        mask: Maps | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """`taught` are the teacher's logits, `mask` its selection m, None for m = 0; the generator draws the projection
        that estimates ||J||_F^2."""
        states = images_of(states).requires_grad_(bool(self.lambda_s or self.lambda_j))
        with differentiable_twice():
            z = logits_of(student, states)
        loss = F.kl_div(z.log_softmax(1), taught.log_softmax(1), log_target=True, reduction="batchmean")
        if self.lambda_s:
            gradient = vjp(z, states, F.one_hot(taught.argmax(1), z.shape[1]).to(z))
            outside = gradient if mask is None else (1 - mask) * gradient
            loss = loss + self.lambda_s * squared_norm(outside).mean()
        if self.lambda_j:
            loss = loss + self.lambda_j * jacobian_norms(z, states, generator=generator).mean()
        return loss
