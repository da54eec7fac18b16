"""Fetching published weights from the Hugging Face hub, resumable and checked."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from moda.errors import ModaError
from moda.weights.folder import first_line, home

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

# repository -> the files of it that are used
OFFICIAL = {
    "lixinyizju/moda": ("moda/net-200.pth",),
    "KwaiVGI/LivePortrait": (
        "liveportrait/base_models/appearance_feature_extractor.pth",
        "liveportrait/base_models/motion_extractor.pth",
        "liveportrait/base_models/warping_module.pth",
        "liveportrait/base_models/spade_generator.pth",
        "liveportrait/retargeting_models/stitching_retargeting_module.pth",
    ),
    "TencentGameMate/chinese-hubert-base": ("config.json", "preprocessor_config.json", "pytorch_model.bin"),
}


def download(
    name: str = "official",
    report: Callable[[str], None] = print,
    progress: Callable[[float], None] | None = None,
) -> str:
    """Fetch, check and convert the published model into `moda.weights.folder.home()`; -> a line: where it is.

    Goes on where it was broken off. HF_ENDPOINT and HF_HUB_OFFLINE are honoured. Every file is compared
    with the size and the hash that the hub states.

    report: told the licences and each file; progress: told 0..1 of the current file

    Errors: ModaError for another name, no connection, a missing file or one that is not what the hub says.
    """
    from moda.weights.published import convert

    if name != "official":
        raise ModaError(
            f"there is nothing to download called {name!r}; official is the name of the published weights"
        )
    folder = home() / name
    if (folder / "config.json").exists():
        return f"{folder}: already here; remove it to fetch it again"
    originals = home() / "downloads"
    for repository, files in OFFICIAL.items():
        fetch(repository, files, originals / repository.replace("/", "--"), report, progress)
    convert(originals, folder)
    return f"{folder}: use it with --model official ({originals} can be removed)"


def fetch(
    repository: str,
    files: tuple[str, ...],
    folder: Path,
    report: Callable[[str], None],
    progress: Callable[[float], None] | None = None,
) -> None:
    """The named files of a repository, below `folder`, checked."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        info = HfApi(endpoint=endpoint).model_info(repository, files_metadata=True)
    except Exception as error:  # of connections, of requests and of the hub: many kinds
        raise ModaError(f"the hub cannot be asked for {repository}: {first_line(error)}") from error
    licence = getattr(info.card_data, "license", None) or "not stated"
    report(f"{repository}: licence {licence}, from {endpoint or 'huggingface.co'}")
    stated = {sibling.rfilename: sibling for sibling in info.siblings or []}
    missing = [file for file in files if file not in stated]
    if missing:
        raise ModaError(f"{repository} on the hub has no {', '.join(missing)}")
    for file in files:
        if is_as_stated(folder / file, stated[file]):
            report(f"  {file}: here")
            continue
        report(f"  {file}: fetching {(stated[file].size or 0) / 1e6:.1f} MB")
        part = folder / (file + ".part")
        _fetch_file(
            hf_hub_url(repository, file, revision=info.sha, endpoint=endpoint),
            part,
            stated[file].size,
            progress,
        )
        if not is_as_stated(part, stated[file]):
            part.unlink(missing_ok=True)
            raise ModaError(
                f"{file} of {repository} came with another size or hash than the hub states; try again"
            )
        os.replace(part, folder / file)


def _fetch_file(url: str, part: Path, size: int | None, progress: Callable[[float], None] | None) -> None:
    """Into `part`, from where it ends on. (The hub's own client begins a broken file anew.)"""
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        return  # complete, or too long: the check decides
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            have = have if response.status == 206 else 0
            with open(part, "ab" if have else "wb") as file:
                while block := response.read(1 << 20):
                    have += file.write(block)
                    if progress and size:
                        progress(have / size)
    except (OSError, http.client.HTTPException) as error:
        raise ModaError(
            f"{url} broke off: {first_line(error)}; the same command goes on from there"
        ) from error


def is_as_stated(path: Path, stated: RepoSibling) -> bool:
    """Size and hash are the hub's: SHA-256 of large files, git's SHA-1 of small ones."""
    if not path.is_file() or (stated.size is not None and path.stat().st_size != stated.size):
        return False
    if stated.lfs is not None:
        return _digest(path, hashlib.sha256()) == stated.lfs.sha256
    if stated.blob_id is not None:
        return _digest(path, hashlib.sha1(f"blob {path.stat().st_size}\0".encode())) == stated.blob_id
    return True


def _digest(path: Path, digest) -> str:
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
