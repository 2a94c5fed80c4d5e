"""The standard Inception network of FID, KID and IS, as torch-fidelity has it.

Resize (TensorFlow 1's bilinear to 299), range ((x − 128) / 128), layers and the logits without bias
are all its own, so equal images and weights give torch-fidelity's numbers in float32. In bfloat16
they are several times faster, moved the FID of 2 × 1000 images by 2.2 per cent
(``tests/benchmarks/evaluation.json``), and may not be mixed with float32 ones: the same images,
seen once in each, are as far apart as two different sets.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import struct
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genctl.errors import CapabilityError
from genctl.float32 import full_float32
from genctl.metrics.features.extractor import DTYPES, precision_warning, with_channels
from genctl.metrics.features.inception_network import InceptionNetwork

ENVIRONMENT = "GENCTL_INCEPTION_WEIGHTS"
KNOWN = "6726825d"
"""First digits of the SHA-256 of the published weights, which their file name carries."""

REMEDY = (
    f"--inception-weights FILE or {ENVIRONMENT}=FILE (weights-inception-2015-12-05-{KNOWN}.pth), "
    "or measure with --features pixels or --features RUN of a classifier"
)
CONNECT_SECONDS = 20.0
# What torch's unpickler, which builds nothing but tensors, raises on what is no file of weights.
_DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


class Inception:
    """Inception-v3 features (2048) and logits without bias (1008 classes).

    Args:
        weights: a file of weights; None looks at the environment variable, then torch's download
            cache, then the network.
        device: where to compute.
        standard: false when the file is meant as some other network of the same shape.
        precision: number format of the convolutions, ``fp32`` or ``bf16``.

    Raises:
        CapabilityError: no weights to be had, or the file does not hold this network's.
    """

    def __init__(
        self,
        weights: Path | None,
        device: torch.device | str = "cpu",
        *,
        standard: bool = True,
        precision: str = "fp32",
    ) -> None:
        self.device = torch.device(device)
        self.standard = standard
        self.classes = True
        chosen = weights or _from_environment()
        path = chosen if chosen is not None else _download()
        state, digest = _read(path)
        self.network = InceptionNetwork(_build(state, path), DTYPES[precision]).to(self.device)
        self.known = digest.startswith(KNOWN)
        self.name = "inception" if standard else path.stem
        self.protocol: dict[str, Any] = {
            "extractor": "inception-v3-compat of torch-fidelity, layers 2048 and logits_unbiased",
            "extractor_hash": digest,
            "extractor_hash_known": self.known,
            "range": "(uint8 - 128) / 128",
            "resize": "bilinear of TensorFlow 1, not antialiased, to 299x299",
            "channels": 3,
            "precision": precision,
            "torch_fidelity": metadata.version("torch-fidelity"),
        }

    @property
    def warning(self) -> str:
        """What must be said of these features; empty for published weights in float32."""
        found = []
        if not self.known:
            digest = self.protocol["extractor_hash"][:8]
            found.append(
                f"Inception weights of unknown hash {digest}… (the published ones have {KNOWN}…)"
            )
        found.append(precision_warning(self.protocol["precision"]))
        return "; ".join(text for text in found if text)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Uint8 ``(N, C, H, W)`` → features ``(N, 2048)``, logits ``(N, 1008)``."""
        with full_float32(), torch.autocast(self.device.type, enabled=False):
            features, logits = self.network(with_channels(images.to(self.device), 3))
        return features, logits


def _from_environment() -> Path | None:
    text = os.environ.get(ENVIRONMENT)
    return Path(os.path.expanduser(text)) if text else None


def _download() -> Path:
    """The published weights from torch's cache, or into it; checked against their hash."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    if target.is_file():
        return target
    timeout = socket.getdefaulttimeout()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(CONNECT_SECONDS)
        torch.hub.download_url_to_file(
            URL_INCEPTION_V3, str(target), hash_prefix=KNOWN, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError, EOFError) as error:
        raise CapabilityError(
            "Inception weights", f"not given, and the download failed ({error})", REMEDY
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
    return target


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The state dictionary of a .pth or .safetensors file, and the file's SHA-256."""
    try:
        data = Path(os.path.expanduser(path)).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CapabilityError(f"Inception weights {path}", reason, REMEDY) from None
    try:
        state = _parse(data, path.suffix)
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:120]
        raise CapabilityError(
            f"Inception weights {path}", f"not readable: {reason}", REMEDY
        ) from None
    if not isinstance(state, dict):
        raise CapabilityError(f"Inception weights {path}", "not a dictionary of weights", REMEDY)
    return state, hashlib.sha256(data).hexdigest()


def _parse(data: bytes, suffix: str) -> object:
    if suffix != ".safetensors":
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _build(state: dict[str, Tensor], path: Path) -> torch.nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # Its constructor unpickles whatever it is given. It is given a copy, made here in memory, of
    # what was already read safely.
    copy = io.BytesIO()
    torch.save(state, copy)
    copy.seek(0)
    try:
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=copy
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise CapabilityError(
            f"Inception weights {path}", f"not this network's: {reason}", REMEDY
        ) from None
