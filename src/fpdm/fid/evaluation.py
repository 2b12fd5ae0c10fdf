"""Compute FID by the standard protocol: many samples of a run, by many processes, against reference statistics."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fpdm.configuration import Record, from_values
from fpdm.data.labels import balanced_labels
from fpdm.evaluation.features import Features
from fpdm.evaluation.frechet import GaussianStatistics, frechet_distance
from fpdm.evaluation.kid import kernel_distance
from fpdm.evaluation.precision_recall import PrecisionRecall, precision_recall
from fpdm.evaluation.pretrained import PretrainedExtractor, pretrained_extractor
from fpdm.fid.feature_shards import FeatureShards, ShardImages, extract_features, shard_size
from fpdm.fid.npz import write_images
from fpdm.fid.settings import EVALUATION, NEIGHBOUR, EvaluationSettings
from fpdm.fid.statistics import Origin, ReferenceStatistics, read_reference
from fpdm.files import files_in, read_json, write_atomically
from fpdm.memory import check_disk, check_memory
from fpdm.processes import PATIENCE, processes
from fpdm.randomness import Stream, generator
from fpdm.runs.run import Run
from fpdm.runs.samples import check_claim, claim, settings_of
from fpdm.sampling.images import ImageSampler, draw_in_order
from fpdm.sampling.plan import Plan
from fpdm.sampling.timesteps import PHI

RESULT, SAMPLES, SHARDS, REFERENCE_SHARDS = "result.json", "samples.npz", "pieces", "reference-pieces"
_CHECKSUM = "checksum"


@dataclass(frozen=True)
class Protocol:
    """Everything that the results depend on, shown beside them.

    Attributes:
        images: Number of generated images.
        shape: Shape of the images, (C, H, W). The extractor gets them with 8 bits per channel, directly from memory.
        labels: "random" or "balanced"; "none" for a model without classes.
        seed: Seed of the samples.
        run: Name of the recipe.
        trained_steps: Training steps of the run.
        weights_sha256: Hash of the averaged weights.
        autoencoder_sha256: Hash of the autoencoder; empty for a model of pixels.
        plan: How the budget was spent.
        steps: Number of sampling steps.
        extractor: Name of the extractor.
        extractor_sha256: Hash of its weights.
        resize: How images were resized for the extractor.
        reference: Name of the reference file.
        reference_sha256: Hash of the reference file.
        origin: Images behind the reference; None if its file does not say.
        kernel_images: Number of real images in the kernel distance; 0 if the reference has no features.
        manifold_images: Numbers of generated and real images in precision and recall.
        versions: Versions of the libraries.
    """

    images: int
    shape: tuple[int, int, int]
    labels: str
    seed: int
    run: str
    trained_steps: int
    weights_sha256: str
    autoencoder_sha256: str
    plan: Plan
    steps: int
    extractor: str
    extractor_sha256: str
    resize: str
    reference: str
    reference_sha256: str
    origin: Origin | None
    kernel_images: int
    manifold_images: tuple[int, int]
    versions: dict[str, str]

    def to_text(self) -> str:
        """Format the protocol as indented lines."""
        channels, height, width = self.shape
        p, o = self.plan, self.origin
        trained = f"{self.run}, {self.trained_steps:,} training steps, averaged weights {self.weights_sha256[:12]}"
        if self.autoencoder_sha256:
            trained += f", autoencoder {self.autoencoder_sha256[:12]}"
        spending = (
            f"{p.budget} block passes, {self.steps} steps, {p.sampler}, grid {p.grid}, allocation {p.allocation}, "
            f"{'with' if p.reuse else 'without'} reuse, guidance {p.guidance:g}, {p.solver}"
            + (f", {p.self_guidance_in_words()}" if p.self_guidance else "")
        )
        about = f"{o.images:,} images of {o.source} ({o.split}), {o.resize}" if o else "its origin is not in the file"
        generated, real = self.manifold_images
        rows = {
            "images": f"{self.images:,} of {channels} x {height} x {width}, 8 bits, through no file",
            "labels": f"{self.labels}; seed {self.seed}",
            "model": trained,
            "plan": spending,
            "extractor": f"{self.extractor}, sha256 {self.extractor_sha256[:12]}; resized {self.resize}",
            "reference": f"{self.reference}, sha256 {self.reference_sha256[:12]}; {about}",
        }
        if p.grid.startswith("phi^"):
            rows["grid"] = PHI.removeprefix("phi^P is a timestep grid: ")
        if self.kernel_images:
            rows["kernel"] = f"cubic, all pairs of {self.images:,} generated and {self.kernel_images:,} real images"
        if real:
            rows["manifolds"] = f"{generated:,} generated and {real:,} real images, neighbour {NEIGHBOUR}"
        rows["versions"] = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return "\n".join(f"  {name:<11}{text}" for name, text in rows.items())


@dataclass(frozen=True)
class Evaluation(Record):
    """The result of an evaluation.

    Attributes:
        name: Name of the Fréchet distance: "FID" only with Inception and the published weights.
        distance: The Fréchet distance.
        kernel: The kernel distance (KID if the other is a FID); None if the reference has no features.
        precision: Share of generated images within the manifold of the real ones; None without features.
        recall: Share of real images within the manifold of the generated ones; None without features.
        passes: Block passes per image.
        macs: Multiply-accumulates per image.
        seconds: Seconds of sampling, summed over all processes.
        protocol: Everything that the results depend on.
        out: The output folder.
    """

    name: str
    distance: float
    kernel: float | None
    precision: float | None
    recall: float | None
    passes: float
    macs: float
    seconds: float
    protocol: Protocol
    out: Path

    def to_text(self) -> str:
        """Format the results and the protocol."""
        figures = {self.name: f"{self.distance:.4f}"}
        if self.kernel is not None:
            figures["KID" if self.name == "FID" else "kernel distance"] = f"{self.kernel:.6f}"
        if self.precision is not None and self.recall is not None:
            figures |= {"precision": f"{self.precision:.4f}", "recall": f"{self.recall:.4f}"}
        spent = (
            f"{self.passes:.1f} block passes and {self.macs / 1e9:.3f} GMACs per image; "
            f"{self.seconds:.0f} s of sampling over all processes"
        )
        lines = [f"{name} {value}" for name, value in figures.items()]
        return "\n".join([*lines, self.protocol.to_text(), f"  {'spent':<11}{spent}", f"in {self.out}"])


def evaluate(
    run: Run, plan: Plan, reference: Path, out: Path, settings: EvaluationSettings, *, overwrite: bool = False
) -> Evaluation | None:
    """Evaluate samples of a run against reference statistics, with all processes that were started.

    The results do not depend on the number of processes. An interrupted evaluation continues where it stopped; the
    result of a finished one is read from its folder.

    Args:
        run: The run.
        plan: How to spend the budget.
        reference: File of the reference statistics.
        out: Folder for the result and for intermediate files.
        settings: Settings of the evaluation.
        overwrite: Replace the result of an earlier evaluation with other settings or another reference.

    Returns:
        The result in the main process, None in all others.

    Raises:
        ValueError: The plan does not fit the model, a file is missing or not of the expected kind, the reference
            belongs to another extractor, or the folder has other files, or the result of another evaluation.
        RunError: The samples are not finite.
        Interrupted: A process received SIGINT, SIGTERM or SIGUSR1. Finished shards are kept.
    """
    state = processes(timeout=PATIENCE)
    device = torch.device(state.device or "cpu")
    target = read_reference(reference)
    with state.local_main_process_first():  # it may have to download
        extractor = pretrained_extractor(
            settings.extractor, weights=Path(settings.weights) if settings.weights else None, device=device
        )
    statistics = target.statistics(extractor)
    sampler = run.sampler(plan, seed=settings.seed, device=device)
    run.check_fits(min(settings.batch_size, settings.piece_size, settings.num_images), plan.guidance, device=device)
    labels = settings.labels if run.model.shape.num_classes else "none"
    made_with = {**settings_of(run, sampler), "labels": labels, "extractor": extractor.identity}
    protocol = _protocol(run, sampler, labels, extractor, target, settings)
    if state.is_main_process:
        _compare_sizes(protocol)
    with EVALUATION.hold(out) if state.is_main_process else nullcontext():
        if state.is_main_process:
            claim(out, made_with, overwrite=overwrite)
            if not overwrite:
                _check_result(out, protocol)
        state.wait_for_everyone()
        made_with = check_claim(out, made_with)  # so that no process has other weights, of a run that goes on
        finished = _finished(out, protocol, settings)
        state.wait_for_everyone()
        fingerprint = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
        shards = FeatureShards(
            out / SHARDS, settings.num_images, settings.piece_size, fingerprint, extractor.identity, settings.npz
        )
        if finished is not None:
            if state.is_main_process and not settings.keep:
                shards.delete()  # by a call that was killed before it could
            return finished if state.is_main_process else None
        _check_fits(settings, out, dims=len(statistics.mean))

        def draw(shard: range) -> ShardImages:
            chosen = labels_of(shard, labels, settings.seed, sampler)
            pixels, cost = draw_in_order(sampler, shard, chosen, batch_size=settings.batch_size)  # (B, C, H, W)
            return ShardImages(pixels, {"passes": cost.passes, "macs": cost.macs, "seconds": cost.seconds})

        extract_features(shards, draw, extractor, batch_size=settings.batch_size, what="sampling")
        real = _real_features(target, extractor, out, settings)
        if not state.is_main_process:
            return None
        found = _measure(shards, statistics, target, real, extractor, protocol, out, device)
        if settings.npz:
            write_images(out / SAMPLES, shards.images(), settings.num_images, protocol.shape[1:])
        values = json.loads(found.to_json())
        write_atomically(out / RESULT, json.dumps({**values, _CHECKSUM: _checksum(values)}, indent=1))
        if not settings.keep:
            shards.delete()
        return found


def _check_fits(settings: EvaluationSettings, out: Path, *, dims: int) -> None:
    """Raise if the features do not fit on the disk, or the list of their shards in memory, counted low."""
    what = f"an evaluation of {settings.num_images:,} images"
    done = settings.piece_size * files_in(out / SHARDS)
    check_disk(4 * dims * (settings.num_images - done), out, what)
    check_memory(64 * settings.num_images // settings.piece_size, what, "fewer --num-images")


def labels_of(indices: Sequence[int], kind: str, seed: int, sampler: ImageSampler) -> list[int]:
    """Return the labels of the images with these indices: "random", or else all classes in turn."""
    classes = sampler.model.shape.num_classes
    if kind != "random":
        return balanced_labels(indices, classes)
    return [int(generator(seed, Stream.LABEL, index).integers(classes)) for index in indices]


def _protocol(
    run: Run,
    sampler: ImageSampler,
    labels: str,
    extractor: PretrainedExtractor,
    target: ReferenceStatistics,
    settings: EvaluationSettings,
) -> Protocol:
    most = settings.manifold_images
    kernel_images = len(target.features) if target.features is not None else 0
    real = min(kernel_images or (len(target.archive) if target.archive else 0), most)
    real = real if real > NEIGHBOUR and settings.num_images > NEIGHBOUR else 0
    libraries = ["fpdm", "torch", *(["torch-fidelity"] if extractor.is_inception else [])]
    return Protocol(
        images=settings.num_images,
        shape=run.image_shape,
        labels=labels,
        seed=settings.seed,
        run=run.recipe.name,
        trained_steps=run.progress.step,
        weights_sha256=run.weights,
        autoencoder_sha256=run.autoencoder.sha256,
        plan=sampler.plan,
        steps=len(sampler.timesteps),
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        resize=extractor.resize,
        reference=target.path.name,
        reference_sha256=target.sha256,
        origin=target.origin,
        kernel_images=kernel_images if kernel_images > 1 else 0,
        manifold_images=(min(settings.num_images, most), real) if real else (0, 0),
        versions={name: importlib.metadata.version(name) for name in libraries},
    )


def _compare_sizes(protocol: Protocol) -> None:
    origin = protocol.origin
    if origin is not None and (origin.channels, origin.size, origin.size) != protocol.shape:
        warnings.warn(
            f"the reference's images are {origin.channels} x {origin.size} x {origin.size}, the generated ones "
            f"{' x '.join(map(str, protocol.shape))}: the distance measures that difference too",
            stacklevel=3,
        )


def _check_result(out: Path, protocol: Protocol) -> None:
    """Raise if the folder has the result of another evaluation; a damaged one counts as none."""
    try:
        changed = _changes(read_json(out / RESULT), protocol)
    except (OSError, ValueError, TypeError, KeyError):
        return
    if changed:
        names = [key.removesuffix("_sha256") for key in changed[:3]]
        raise ValueError(
            f"{out} has the result of an evaluation with another {' and '.join(names)}; choose another folder, "
            "or replace it with --overwrite"
        )


# Names, of which the hashes are in the protocol too, and versions, by which no evaluation is another.
_FREE = {"run", "extractor", "reference", "versions"}


def _changes(result: dict[str, Any], protocol: Protocol) -> list[str]:
    """Return in what the protocol of a result is another, apart from names and versions."""
    before = _protocol_values(result)
    now = json.loads(json.dumps(asdict(protocol)))
    return [key for key, value in now.items() if key not in _FREE and before[key] != value]


def _protocol_values(result: dict[str, Any]) -> dict[str, Any]:
    """Return the protocol in a result, with all fields of a plan, some of which older results lack."""
    plan = from_values(Plan, result["protocol"]["plan"], "plan")
    return {**result["protocol"], "plan": json.loads(json.dumps(asdict(plan)))}


def _finished(out: Path, protocol: Protocol, settings: EvaluationSettings) -> Evaluation | None:
    """Return the existing result if it has this protocol and nothing is missing."""
    path = out / RESULT
    if not path.exists() or (settings.npz and not (out / SAMPLES).exists()):
        return None
    try:
        values = read_json(path)
        checksum = values.pop(_CHECKSUM, None)  # earlier versions wrote none
        if checksum not in (None, _checksum(values)):
            warnings.warn(f"{path} was changed since it was written; measuring again", RuntimeWarning, stacklevel=2)
            return None
        if _changes(values, protocol):
            return None
        made_by = dataclasses.replace(protocol, versions=values["protocol"]["versions"])
        return Evaluation(**{**values, "protocol": made_by, "out": out})
    except (ValueError, TypeError, KeyError):
        return None


def _checksum(values: Mapping[str, Any]) -> str:
    """Return a hash of a result, by which a change of its file is noticed."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _real_features(
    target: ReferenceStatistics, extractor: PretrainedExtractor, out: Path, settings: EvaluationSettings
) -> Features | None:
    """Return features of real images: those in the reference, or computed from the images in its file."""
    if target.features is not None:
        return Features(target.features, extractor.identity)
    archive = target.archive
    if archive is None:
        return None
    count = min(len(archive), settings.manifold_images)
    size = shard_size(settings.piece_size, archive.shape[1:])
    shards = FeatureShards(out / REFERENCE_SHARDS, count, size, target.sha256, extractor.identity)
    extract_features(
        shards,
        lambda shard: ShardImages(archive.read(shard)),
        extractor,
        batch_size=settings.batch_size,
        what="reference",
    )
    if not processes().is_main_process:
        return None
    return Features(torch.cat([part.values for part in shards.features()]), extractor.identity)


def _measure(
    shards: FeatureShards,
    statistics: GaussianStatistics,
    target: ReferenceStatistics,
    real: Features | None,
    extractor: PretrainedExtractor,
    protocol: Protocol,
    out: Path,
    device: torch.device,
) -> Evaluation:
    distance = frechet_distance(GaussianStatistics.of_parts(shards.features()), statistics)
    kernel, manifold = None, None
    if real is not None:
        made = Features(torch.cat([part.values for part in shards.features()]), extractor.identity)  # (N, F)
        if protocol.kernel_images:
            kernel = kernel_distance(made, real)
        manifold = _manifold(made, real, protocol.manifold_images, device)
    notes = shards.notes()
    n = protocol.images
    return Evaluation(
        name="FID" if extractor.is_published else f"Fréchet distance in {extractor.name} features",
        distance=distance,
        kernel=kernel,
        precision=manifold.precision if manifold else None,
        recall=manifold.recall if manifold else None,
        passes=sum(note["passes"] for note in notes) / n,
        macs=sum(note["macs"] for note in notes) / n,
        seconds=sum(note["seconds"] for note in notes),
        protocol=protocol,
        out=out,
    )


def _manifold(made: Features, real: Features, counts: tuple[int, int], device: torch.device) -> PrecisionRecall | None:
    """Compute precision and recall of `counts` generated and real images; the real ones are spread evenly."""
    if not all(counts):
        return None
    # Exact distances of all pairs in float64: minutes on a CPU, seconds on a GPU. MPS has no float64.
    where = device if device.type == "cuda" else torch.device("cpu")
    places = torch.arange(counts[1]) * len(real.values) // counts[1]  # (M,)
    x = dataclasses.replace(made, values=made.values[: counts[0]].to(where))  # (N, F)
    y = dataclasses.replace(real, values=real.values[places].to(where))  # (M, F)
    return precision_recall(x, y, NEIGHBOUR)
