"""The shapes of tensors in signatures: for people to read, and for jaxtyping to check where it is installed."""

from torch import Tensor

try:
    from jaxtyping import Float
except ModuleNotFoundError:

    class Float:
        """Float[Tensor, "batch classes"] is then no more than Tensor."""

        def __class_getitem__(cls, described: tuple[type, str]) -> type:
            return described[0]


Images = Float[Tensor, "batch channels height width"]
Maps = Float[Tensor, "batch 1 height width"]
