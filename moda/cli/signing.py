"""`--sign`: what a command writes carries content credentials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moda.errors import ModaError

if TYPE_CHECKING:
    from moda.interchange.credentials import Signing

Sign = Annotated[bool, typer.Option("--sign", help="Sign it: what made it, of what (C2PA).")]
SignCert = Annotated[
    Path | None, typer.Option(help="Your certificate's chain, .pem, in place of a local one.")
]
SignKey = Annotated[Path | None, typer.Option(help="Its private key, .pem.")]


def given_signing(output: Path, sign: bool, cert: Path | None, key: Path | None) -> Signing | None:
    """Looked at before any work. Errors: ModaError without the extra, for files that cannot be read or carry none."""
    if not sign:
        if cert or key:
            raise ModaError("--sign-cert and --sign-key need --sign")
        return None
    from moda.interchange.credentials import Signing, check_signable

    check_signable(output)
    signing = Signing(cert, key)
    signing.load()
    return signing


def write(
    save: Callable[..., object],
    output: Path,
    report: Callable[[float], None] | None,
    signing: Signing | None,
    inputs: Sequence[Path],
    **made: object,
) -> None:
    """save(path, progress), signed where it is asked for; the rest as `save_signed`."""
    if signing is None:
        save(output, report)
        return
    from moda.interchange.credentials import save_signed

    save_signed(lambda path: save(path, report), output, signing, inputs, **made)
