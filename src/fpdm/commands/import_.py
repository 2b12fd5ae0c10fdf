"""`fpdm import`: a foreign checkpoint as a model of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from fpdm.commands.folders import writable
from fpdm.commands.options import Command
from fpdm.importing.foreign import read_foreign_checkpoint
from fpdm.importing.layouts import Hints, convert
from fpdm.importing.write import Imported, import_model


@dataclass(frozen=True, kw_only=True)
class Import(Command):
    """Import a DiT or FPDM checkpoint of the original code, the authors' or diffusers'.

    Attributes:
        checkpoint: A .pt or .safetensors file (DiT-XL-2-256x256.pt, or a training checkpoint of DiT's or the authors'
            code); or a folder, or a name on the hub, with diffusers' DiTTransformer2DModel or DiTPipeline. Only
            weights are read; a file that asks for more is refused.
        out: Folder of the model, for fpdm sample and the others, and in the hub's layout.
        weights: Of a training checkpoint, the averaged weights or the raw ones.
        autoencoder: Name on the hub, or folder, of what decodes its latents (default: stabilityai/sd-vae-ft-ema or
            -mse, as the checkpoint says, for latents of 4 channels; none for 1 or 3 channels, which are pixels).
        heads: Attention heads, where the width is none of DiT's sizes S, B, L, XL.
        timestep_everywhere: Whether an FPDM's pre and post blocks see the timestep, where the checkpoint does not say
            (default: no, as in the paper).
        prediction: What the network predicts, where the checkpoint does not say (default: epsilon for a DiT, v for an
            FPDM).
        zero_terminal_snr: Whether its schedule ends in pure noise, where the checkpoint does not say (default: if it
            predicts v).
    """

    checkpoint: Positional[str]
    out: Path
    weights: Literal["ema", "model"] = "ema"
    autoencoder: str = ""
    heads: int | None = None
    timestep_everywhere: bool | None = None
    prediction: Literal["v", "epsilon"] | None = None
    zero_terminal_snr: bool | None = None

    def execute(self) -> Imported:
        """Import it."""
        writable(self.out)
        foreign = read_foreign_checkpoint(self.checkpoint, self.weights)
        hints = Hints(self.heads, self.timestep_everywhere, self.prediction, self.zero_terminal_snr)
        return import_model(foreign, convert(foreign, hints), self.out, autoencoder=self.autoencoder)
