"""Transformer block with adaptive layer norm (DiT's adaLN-Zero), and the output head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Modulation(NamedTuple):
    """The six modulations of a block, each (B, 1, D), which depend only on the conditioning."""

    shift_attn: Tensor
    scale_attn: Tensor
    gate_attn: Tensor
    shift_mlp: Tensor
    scale_mlp: Tensor
    gate_mlp: Tensor

    def repeat(self, copies: int) -> Modulation:
        """Return the modulation of a batch that holds every sample `copies` times: six of (copies * B, 1, D)."""
        return Modulation(*(one.repeat(copies, 1, 1) for one in self))


class Attention(nn.Module):
    """Multi-head self-attention with biases.

    PyTorch chooses the kernel; wrap a call in `torch.nn.attention.sdpa_kernel` to choose another.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)  # (B, T, 3, heads, D/heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 of (B, heads, T, D/heads)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, T, D/heads)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))  # (B, T, D)


class MLP(nn.Module):
    """Two linear layers around a tanh-GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))  # (B, T, D)


class AdaLN(nn.Sequential):
    """SiLU and a zero-initialised linear layer: (B, D) to `parts` of (B, 1, D)."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, parts * width))
        self.parts = parts

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().forward(c)[:, None, :].chunk(self.parts, dim=2)  # parts of (B, 1, D)


class DiTBlock(nn.Module):
    """AdaLN-Zero block (DiT, Peebles and Xie 2023) whose modulation is computed separately, so that it can be reused.

    Args:
        width: Width D of the hidden states.
        heads: Number of attention heads.
        mlp_ratio: Hidden width of the MLP, relative to D.
        norm_eps: Epsilon of the norm before the attention.
        mlp_norm_eps: Epsilon of the norm before the MLP; 0 for the same.
    """

    def __init__(
        self, width: int, heads: int, *, mlp_ratio: float = 4.0, norm_eps: float = 1e-6, mlp_norm_eps: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps, elementwise_affine=False)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=mlp_norm_eps or norm_eps, elementwise_affine=False)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.adaLN_modulation = AdaLN(width, 6)
        init_linears(self)
        init_zero(self.adaLN_modulation[1])

    def modulation(self, c: Tensor) -> Modulation:
        """Compute the modulation from the conditioning `c` (B, D)."""
        return Modulation(*self.adaLN_modulation(c))

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        m = modulation
        h = self.norm1(x) * (1 + m.scale_attn) + m.shift_attn  # (B, T, D)
        x = x + m.gate_attn * self.attn(h)  # (B, T, D)
        h = self.norm2(x) * (1 + m.scale_mlp) + m.shift_mlp  # (B, T, D)
        return x + m.gate_mlp * self.mlp(h)  # (B, T, D)


class Blocks(nn.ModuleList):
    """Sequence of blocks.

    Attributes:
        recompute: Store only each block's input for the backward pass, and recompute the rest.
    """

    recompute = False

    def __init__(
        self,
        count: int,
        width: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-6,
        mlp_norm_eps: float = 0.0,
    ) -> None:
        eps = {"norm_eps": norm_eps, "mlp_norm_eps": mlp_norm_eps}
        super().__init__(DiTBlock(width, heads, mlp_ratio=mlp_ratio, **eps) for _ in range(count))

    def __iter__(self) -> Iterator[DiTBlock]:
        return super().__iter__()  # type: ignore[return-value]

    def compile_each(self, backend: str) -> None:
        """Compile the blocks, which share what is compiled for a shape."""
        for block in self:
            block.compile(backend=backend)

    def modulations(self, c: Tensor) -> tuple[Modulation, ...]:
        """Compute each block's modulation from the conditioning `c` (B, D)."""
        return tuple(block.modulation(c) for block in self)

    def forward(
        self, x: Tensor, modulations: tuple[Modulation, ...], *, start: int = 0, stop: int | None = None
    ) -> Tensor:
        """Apply the blocks from number `start` up to, but not including, number `stop`; all by default.

        Raises:
            ValueError: There is not one modulation for each block.
        """
        if len(modulations) != len(self):
            raise ValueError(f"{len(modulations)} modulations for {len(self)} blocks; expected one for each")
        for number in range(len(self))[start:stop]:  # no zip: torch 2.6 cannot compile a strict one
            block, modulation = self[number], modulations[number]
            x = recomputed(block, x, modulation) if self.recompute else block(x, modulation)  # (B, T, D)
        return x


class Head(nn.Module):
    """Modulated norm and projection to pixels: (..., B, T, D) to (..., B, T, p * p * C)."""

    def __init__(self, width: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, patch_size * patch_size * out_channels)
        self.adaLN_modulation = AdaLN(width, 2)
        init_zero(self.linear)
        init_zero(self.adaLN_modulation[1])

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)  # (B, 1, D) each
        return self.linear(self.norm_final(x) * (1 + scale) + shift)  # (..., B, T, p * p * C)


def recomputed(function: Callable[..., Tensor], *args: Any) -> Tensor:
    """Call `function(*args)` with activation checkpointing: only the arguments are stored for the backward pass."""
    # The function has no randomness, so there is no random state to restore.
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)  # type: ignore[return-value]


def init_linears(module: nn.Module) -> None:
    """Initialise every linear layer inside `module` with Xavier-uniform weights and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def init_zero(layer: nn.Module) -> None:
    """Set all parameters of `layer` to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
