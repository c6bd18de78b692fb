"""Download of official checkpoints from the Hugging Face Hub. A file appears when it is complete and checked."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from depth_anything_ros.errors import CheckpointNotFound, DownloadError, LicenseNotAccepted, os_reason
from depth_anything_ros.model.checkpoint_reading import file_sha256
from depth_anything_ros.model.checkpoint_search import cache_folder, checkpoint_name, how_to_get, hub_repository
from depth_anything_ros.model.registry import dataset_spec, license_of

logger = logging.getLogger(__name__)


def download_checkpoint(
    encoder: str,
    dataset: str,
    *,
    accept_license: bool = False,
    folder: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """Fetch an official checkpoint from the Hub into the cache folder, with a progress bar.

    The file appears under its name only when it is complete and its SHA-256 is the hub's.

    Args:
        accept_license: agree to a non-commercial licence (Base and Large: CC-BY-NC-4.0).
        folder: where to put it instead of the cache folder.
        endpoint: another hub's base URL; None leaves it to huggingface_hub (`HF_ENDPOINT`).

    Raises:
        CheckpointNotFound: the encoder has no official weights.
        LicenseNotAccepted: the licence needs `accept_license`.
        DownloadError: no connection, no such file, or the wrong content.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    name, repository = checkpoint_name(encoder, dataset), hub_repository(encoder, dataset)
    if repository is None:
        raise CheckpointNotFound(how_to_get(encoder, dataset))
    license_id = license_of(encoder, dataset)
    if license_id != "Apache-2.0" and not accept_license:
        raise LicenseNotAccepted(
            f"{name} is licensed {license_id}: non-commercial use only. If you agree, run "
            f"`depth_anything download {encoder} {dataset} --accept-license` or set accept_license."
        )
    logger.info("downloading %s from %s (licence %s)", name, repository, license_id)
    target = (folder or cache_folder()) / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file, not a folder" if isinstance(error, FileExistsError) else os_reason(error)
        raise DownloadError(f"{error.filename} cannot be written: {reason}") from error
    try:
        with TemporaryDirectory(prefix=".download-", dir=target.parent) as partial:
            file = target.name
            announced = get_hf_file_metadata(hf_hub_url(repository, file, endpoint=endpoint)).etag
            path = Path(hf_hub_download(repository, file, local_dir=partial, endpoint=endpoint))
            _check_arrival(path, announced, dataset_spec(dataset).sha256.get(encoder))
            return path.replace(target)
    except Exception as error:  # the hub client raises many kinds: its own, its HTTP library's, OSError
        raise DownloadError(f"cannot download {name} from {repository}: {type(error).__name__}: {error}") from error


def _check_arrival(path: Path, announced: str | None, known: str | None) -> None:
    """Compare with the SHA-256 the hub announced, and with the one that is known.

    For small files the hub announces a hash of another kind.
    """
    digest = file_sha256(path)
    if announced and re.fullmatch(r"[0-9a-f]{64}", announced) and digest != announced:
        raise OSError(f"it arrived damaged: SHA-256 {digest}, the hub announced {announced}")
    if known is not None and digest != known:
        raise OSError(f"it is not the official file: SHA-256 {digest}, expected {known}")
