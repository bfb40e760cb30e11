"""The suspects of the stages in; a page on this machine where a person decides, and rows of the corrections, out."""

import logging
import secrets
import socket
import webbrowser
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.admission.corrections import read_corrections
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import read_manifest
from tasks.data.samples.samples import Samples
from tasks.machine.files import read_json
from tasks.page.options import PageOptions
from tasks.reviewing.server import HOSTS, Review, application
from tasks.reviewing.tiles import gather
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.targets.kinds import targets_of

logger = logging.getLogger("graftline")

SMALL, LARGE = 224, 512  # px of the longer side of a picture: of a tile, and of one that is looked at closely


def run(
    *,
    validated: Path,
    audit: Path,
    health: Path,
    evaluation: Path,
    chosen: Path,
    batches: Path,
    raw: Path,
    baseline_record: Path,
    corrections: Path,
    who: str | None,
    port: str | None,
    browse: bool,
    report: PageOptions,
    modality: Modality,
) -> None:
    """Serve the page to this machine alone, until it is interrupted.

    Args:
        health: the folder in which audit lists suspicious samples.
        chosen: the folder that label wrote: the samples to label next.
        who: the person who decides.
        port: of this machine, that the page is served on; by default a free one.
        browse: open the page in a browser.
    """
    if not who:
        raise ValueError("nobody is named who decides: `git config user.name 'Your Name'`, or --who NAME")
    review = review_of(
        validated=validated, audit=audit, health=health, evaluation=evaluation, chosen=chosen, batches=batches, raw=raw,
        baseline_record=baseline_record, corrections=corrections, who=who, report=report, modality=modality,
    )  # fmt: skip
    before = len(read_corrections(corrections))
    import uvicorn  # --help does not wait for it

    with listening(port) as server_socket:
        number = server_socket.getsockname()[1]
        address = f"http://{HOSTS[0]}:{number}/?secret="
        logger.info("%s samples to look at: %s%s (Ctrl-C ends)", f"{len(review.tiles):,}", address, review.secret)
        server = uvicorn.Server(
            uvicorn.Config(
                application(review, port=number), log_level="warning", access_log=False, lifespan="off",
                server_header=False, timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        if browse:
            ticket = secrets.token_urlsafe(24)  # all users of the machine see the words that a browser is started with
            review.tickets.add(ticket)
            webbrowser.open(address + ticket)
        with suppress(KeyboardInterrupt):  # uvicorn ends well, and raises it again
            server.run(sockets=[server_socket])
    num = len(read_corrections(corrections)) - before
    logger.info(
        "%d rows are new in %s%s", num, corrections, "; next: commit it, then `graftline retrain`" if num else ""
    )


def listening(port: str | None) -> socket.socket:
    """Return a socket of this machine alone. Raises ValueError where the port is none, or taken."""
    if port is not None and not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"--port is {port[:20]!r}, expected a number from 1 to 65535")
    try:
        return socket.create_server((HOSTS[0], int(port or 0)))
    except OSError as error:
        raise ValueError(f"port {port} cannot be used ({error.strerror}): choose another, or none") from None


def review_of(
    *,
    validated: Path,
    audit: Path,
    health: Path,
    evaluation: Path,
    chosen: Path,
    batches: Path,
    raw: Path,
    baseline_record: Path,
    corrections: Path,
    who: str,
    report: PageOptions,
    modality: Modality,
) -> Review:
    """Return the samples to review. Raises ValueError where there are none."""
    manifest = read_manifest(validated / "manifest", read_batches(batches))
    targets = targets_of(read_json(validated / "classes.json"))
    tiles = gather(
        manifest, list(targets), validated=validated, audit=audit, health=health, evaluation=evaluation, chosen=chosen,
        in_use=read_json(baseline_record).get("model_sha256"),
    )  # fmt: skip
    if not tiles:
        raise ValueError("there is nothing to review: nothing is suspicious, quarantined, wrong or to be labelled next")
    shown = [tile for tile in tiles if tile.is_shown]
    rows = pd.DataFrame(
        {"sample_id": [tile.sample_id for tile in shown], "batch": [tile.batch for tile in shown],
         "path": [tile.path for tile in shown]}, dtype="str",
    )  # fmt: skip
    twins = manifest.loc[manifest["sample_id"].isin([tile.twin for tile in tiles if tile.twin]), list(rows.columns)]
    decode, preview = room(modality, "decode"), room(modality, "preview")
    samples = Samples[Any](
        pd.concat([rows, twins]).drop_duplicates("sample_id"), raw=raw, decode=decode.decode_sample, read=decode.read
    )
    row_of = {sample_id: row for row, sample_id in enumerate(samples.ids)}

    def shown_as(sample_id: str, is_large: bool) -> str:
        # nothing leaves this machine, so that texts are shown, and with their digits
        options = replace(report, show_text=True, mask_digits=False, picture_size=LARGE if is_large else SMALL)
        decoded = samples.decoded(row_of[sample_id], shorter_side=options.picture_size)
        return str(preview.preview(decoded, options))

    return Review(
        tiles=tiles, targets=targets, modality=modality, corrections=corrections, who=who, preview=shown_as,
        shown=frozenset(row_of),
    )  # fmt: skip


if __name__ == "__main__":
    main(run)
