"""`fpdm import`: a checkpoint of other code as a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fpdm.commands.options import Result
from fpdm.configuration import PositiveInt
from fpdm.runs.layout import IMPORTED

MAIN_OPTIONS = ("out", "weights", "autoencoder", "prediction", "zero_terminal_snr", "timestep_everywhere")


def import_(
    checkpoint: str,
    *,
    out: Path,
    weights: Literal["ema", "model"] = "ema",
    autoencoder: str = "",
    heads: PositiveInt | None = None,
    timestep_everywhere: bool | None = None,
    prediction: Literal["v", "epsilon"] | None = None,
    zero_terminal_snr: bool | None = None,
) -> Result:
    """Import a DiT or FPDM checkpoint: DiT's own, the FPDM authors' or diffusers'.

    Args:
        checkpoint: A .pt or .safetensors file, such as DiT-XL-2-256x256.pt or a training checkpoint; or the folder or
            hub id of a DiTTransformer2DModel or DiTPipeline of diffusers. Only weights are read; a file that asks for
            more is refused.
        out: Folder for the model, which fpdm sample and the other commands read, in the hub's layout.
        weights: Which weights of a training checkpoint to import, the averaged (ema) or the raw ones (model).
        autoencoder: Path or hub id of the autoencoder that decodes the latents (default: stabilityai/sd-vae-ft-ema or
            -mse, whichever the checkpoint names, for 4 channels; none for 1 or 3 channels, which are pixels).
        heads: Number of attention heads, for a width that none of the sizes S, B, L and XL has.
        timestep_everywhere: Whether the pre and post blocks of an FPDM are conditioned on the timestep, if the
            checkpoint does not say (default: no, as in the paper).
        prediction: What the network predicts, if the checkpoint does not say (default: epsilon for a DiT, v for an
            FPDM).
        zero_terminal_snr: Whether the noise schedule ends in pure noise, if the checkpoint does not say (default: yes
            if the network predicts v).
    """
    IMPORTED.check(out, {"checkpoint": checkpoint})
    from fpdm.importing.foreign import read_foreign_checkpoint
    from fpdm.importing.layouts import Hints, convert
    from fpdm.importing.write import import_model

    foreign = read_foreign_checkpoint(checkpoint, weights)
    hints = Hints(heads, timestep_everywhere, prediction, zero_terminal_snr)
    return import_model(foreign, convert(foreign, hints), out, autoencoder=autoencoder)
