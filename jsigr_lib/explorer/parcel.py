"""The pictures of a scene as one run of bytes, as they go to the front end."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor


@dataclass
class Parcel:
    """Pictures as bytes. Equal pictures are kept once."""

    content: bytearray = field(default_factory=bytearray)
    places: dict[bytes, list[int]] = field(default_factory=dict)

    def put(self, picture: np.ndarray) -> list[int]:
        """Add a picture with values in [0, 1], as 8 bits. Returns its offset and length."""
        return self.put_bytes(np.rint(picture * 255).astype(np.uint8).tobytes())

    def put_bytes(self, as_bytes: bytes) -> list[int]:
        if as_bytes not in self.places:
            self.places[as_bytes] = [len(self.content), len(as_bytes)]
            self.content += as_bytes
        return self.places[as_bytes]

    def put_image(self, image: Tensor) -> list[int]:
        """Add an image [channels, height, width]; its bytes have the channels last."""
        return self.put(image.permute(1, 2, 0).cpu().numpy())

    def put_map(self, saliency: Tensor) -> list[int]:
        """Add a map [1, height, width], scaled to its own 99.5th percentile, as in the figures."""
        values = saliency[0].double().cpu().numpy()
        peak = np.quantile(values, 0.995)
        return self.put(np.clip(values / (peak if peak > 0 else 1), 0, 1))
