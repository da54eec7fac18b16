"""What is installed, what device there is, what is missing and how to get it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

GOOD, HINT, BAD = "ok", "--", "!!"
PACKAGES = ("torch", "numpy", "safetensors", "huggingface_hub", "av", "mediapipe", "pi_heif", "typer", "rich")
# import name, extra of the package that brings it, what it is for
EXTRAS = (
    ("transformers", "official", "HuBERT, which the official model listens with"),
    ("matplotlib", "train", "loss curves"),
    ("pocketsphinx", "train", "phone times of real speech"),
)


@dataclass(frozen=True)
class Finding:
    """state: GOOD, HINT (can be added) or BAD (something does not work without it)."""

    state: str
    name: str
    text: str


def examine() -> list[Finding]:
    """Look at everything; a check that fails in an unforeseen way is a finding as well."""
    findings: list[Finding] = []
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python, _packages, _opencv, _landmarks, _codecs, _device, _extras, _models,
    ]  # fmt: skip
    for check in checks:
        try:
            findings += check()
        except Exception as error:
            findings.append(
                Finding(BAD, check.__name__.strip("_"), f"{type(error).__name__}: {error}".split("\n")[0])
            )
    return findings


def show(findings: list[Finding]) -> int:
    """Print them -> the exit code: 1 if something is BAD."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.state}  {finding.name:{width}}  {finding.text}")
    bad = sum(finding.state == BAD for finding in findings)
    print(f"{bad} of these keep moda from working" if bad else "everything that moda needs is here")
    return 1 if bad else 0


def _python() -> Iterator[Finding]:
    fits = (3, 10) <= sys.version_info < (3, 13)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Finding(
        GOOD if fits else BAD, "python", text if fits else f"{text}; 3.10 to 3.12 is needed (MediaPipe)"
    )


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            importlib.import_module(name)
            yield Finding(GOOD, name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(GOOD, name, "version unknown")
        except ImportError as error:
            yield Finding(BAD, name, f"cannot be imported ({error}): pip install {name}")


def _opencv() -> Iterator[Finding]:
    """Several OpenCV packages share the folder cv2; the one installed last is the one that runs."""
    names = (
        "opencv-python-headless",
        "opencv-contrib-python-headless",
        "opencv-python",
        "opencv-contrib-python",
    )
    here = []
    for name in names:
        try:
            here.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        import cv2
    except ImportError as error:
        cure = "pip install --force-reinstall --no-deps opencv-python-headless==4.11.0.86"
        yield Finding(BAD, "opencv", f"cannot be imported ({error}); {cure}")
        return
    window = next(
        (line.split(":")[1].strip() for line in cv2.getBuildInformation().splitlines() if "GUI:" in line), "?"
    )
    kind = "headless" if window == "NONE" else f"with windows ({window})"
    yield Finding(GOOD, "opencv", f"{cv2.__version__} {kind}; installed: {', '.join(here) or 'unknown'}")


def _landmarks() -> Iterator[Finding]:
    import mediapipe

    folder = Path(mediapipe.__file__).parent / "modules"
    files = (
        "face_landmark/face_landmark_with_attention.tflite",
        "face_detection/face_detection_short_range.tflite",
    )
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        yield Finding(
            BAD,
            "face models",
            f"MediaPipe's wheel lacks {', '.join(missing)}: pip install mediapipe==0.10.21",
        )
    else:
        yield Finding(GOOD, "face models", "in MediaPipe's wheel")


def _codecs() -> Iterator[Finding]:
    import av

    for name in ("libx264", "aac"):
        there = name in av.codec.codecs_available
        cure = "this PyAV was built without it; pip install --force-reinstall --only-binary av av"
        yield Finding(GOOD if there else BAD, name, "can encode" if there else cure)


def _device() -> Iterator[Finding]:
    import torch

    yield Finding(
        GOOD, "cpu", f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    if torch.cuda.is_available():
        yield Finding(GOOD, "cuda", torch.cuda.get_device_name())
    else:
        yield Finding(HINT, "cuda", "none; the embedded model does not need one")
    if torch.backends.mps.is_available():
        yield Finding(GOOD, "mps", "Apple GPU")


def _extras() -> Iterator[Finding]:
    for name, extra, use in EXTRAS:
        if importlib.util.find_spec(name):
            yield Finding(GOOD, name, importlib.metadata.version(name))
        else:
            yield Finding(HINT, name, f'for {use}: pip install "moda-talkinghead[{extra}]"')


def _models() -> Iterator[Finding]:
    from moda.errors import ModaError
    from moda.weights import resolve

    for name, cure in (("embedded", "reinstall moda"), ("official", "moda weights download official")):
        try:
            yield Finding(GOOD, f"model {name}", str(resolve(name)))
        except ModaError as error:
            yield Finding(BAD if name == "embedded" else HINT, f"model {name}", f"{error} ({cure})")
