"""State dicts read strictly: every key is taken with the shape it must have, and none may be left over.

While they are read, norms and biases are folded into the convolutions beside them: spectral norm and batch norm
are constant factors at inference.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from moda.errors import ModaError
from moda.render.liveportrait.conv import Conv

BATCH_NORM_EPS = 1e-5


class Reader:
    """Takes tensors out of one network's state dict.

    name: how messages call it. fast: choose convolutions by tiles (fewer operations, for processors) instead of
    the library's own (for GPUs, in half precision).
    """

    def __init__(
        self,
        name: str,
        tensors: Mapping[str, Tensor],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        fast: bool = True,
    ) -> None:
        self.name = name
        # What was taken is dropped, so that a network is not held twice. The count of training batches is stored
        # by every batch norm and used by no computation.
        self.tensors = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
        self.device, self.dtype, self.fast = torch.device(device), dtype, fast

    def take(self, key: str, *shape: int) -> Tensor:
        """The tensor of this key, float32 on the CPU; a ModaError names a key that is missing or misshapen."""
        if key not in self.tensors:
            raise ModaError(f"{self.name}: the weights lack {key!r}; download or convert them again")
        tensor = self.tensors.pop(key)
        if tuple(tensor.shape) != shape:
            raise ModaError(f"{self.name}: {key!r} has shape {tuple(tensor.shape)}, but {shape} is needed")
        return tensor.detach().float().cpu()

    def finish(self) -> None:
        """All keys must have been taken."""
        if self.tensors:
            keys = ", ".join(repr(key) for key in sorted(self.tensors)[:3])
            more = f" and {len(self.tensors) - 3} more" if len(self.tensors) > 3 else ""
            raise ModaError(f"{self.name}: the weights hold {keys}{more}, which this network does not have")

    def put(self, tensor: Tensor) -> Tensor:
        """Onto the device, in the working precision."""
        return tensor.to(self.device, self.dtype).contiguous()

    # -- folding --------------------------------------------------------------------------------------------

    def spectral(self, prefix: str, *shape: int) -> Tensor:
        """A spectrally normalized weight, W / (u . W v), or one that was folded before."""
        if prefix + ".weight" in self.tensors:
            return self.take(prefix + ".weight", *shape)
        w = self.take(prefix + ".weight_orig", *shape).double()
        matrix = w.reshape(shape[0], -1)
        u = self.take(prefix + ".weight_u", shape[0]).double()
        v = self.take(prefix + ".weight_v", matrix.shape[1]).double()
        return (w / (u @ matrix @ v)).float()

    def batch_norm(self, prefix: str, width: int) -> tuple[Tensor, Tensor]:
        """-> factor and offset (width,) float64 of y = x * factor + offset."""
        gamma, beta, mean, var = (
            self.take(f"{prefix}.{part}", width).double()
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / torch.sqrt(var + BATCH_NORM_EPS)
        return factor, beta - mean * factor

    def plain(self, prefix: str, *shape: int, norm: str | None = None) -> tuple[Tensor, Tensor]:
        """Weight and bias, with the batch norm `norm` after it folded in."""
        w, b = self.take(prefix + ".weight", *shape), self.take(prefix + ".bias", shape[0])
        if norm is None:
            return w, b
        factor, offset = self.batch_norm(norm, shape[0])
        w = (w.double() * factor.view(-1, *[1] * (w.ndim - 1))).float()
        return w, (b.double() * factor + offset).float()

    # -- layers ---------------------------------------------------------------------------------------------

    def conv(self, weight: Tensor, bias: Tensor | None, enlarge: int = 1) -> Conv:
        return Conv(self.put(weight), None if bias is None else self.put(bias), enlarge, self.fast)

    def linear(self, prefix: str, width_in: int, width_out: int) -> tuple[Tensor, Tensor]:
        weight, bias = self.plain(prefix, width_out, width_in)
        return self.put(weight), self.put(bias)
