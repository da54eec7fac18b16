"""Content credentials (C2PA): a signed statement in a file that says what made it, of what; and what is known of any file.

Extra: pip install 'moda-talkinghead[credentials]'. The certificate is made at first use, for this machine alone: readers
say that they do not know the signer, but that the file is whole and where it comes from. Who has a certificate of an
authority gives it with its key. Source: C2PA specification 2.1, c2pa-python's documentation.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import mimetypes
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moda import __version__
from moda.errors import ModaError, why
from moda.media.container import comment
from moda.media.files import check_input, whole

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime"}
BROKEN = "credentials: broken"
UNTRUSTED = "signingCredential.untrusted"  # a certificate that no authority vouches for: ours
YEARS = 10
_MISSING = "credentials need c2pa-python: pip install 'moda-talkinghead[credentials]'"


@dataclass(frozen=True)
class Signing:
    """certificate: its chain, leaf first, PEM; key: its private key, PEM (ES256). Both, or none for this machine's."""

    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ModaError("give --sign-cert and --sign-key together")

    def load(self) -> tuple[str, str]:
        """-> chain, key. Errors: ModaError for files that cannot be read."""
        try:
            import c2pa
        except ImportError as error:
            raise ModaError(_MISSING) from error
        del c2pa
        if self.certificate is None or self.key is None:
            return own_certificate()
        try:
            chain = check_input(self.certificate, "certificate").read_text()
            key = check_input(self.key, "key").read_text()
        except (OSError, UnicodeError) as error:
            raise ModaError(f"the certificate or its key cannot be read: {why(error)}") from error
        _check_pair(self.certificate, chain, self.key, key)
        return chain, key


def _check_pair(certificate: Path, chain: str, key_file: Path, key: str) -> None:
    """Errors: ModaError that names the file that is no certificate, or no key that belongs to it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError as error:
        raise ModaError(f"{certificate} holds no certificate in PEM: {error}") from error
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        raise ModaError(f"{key_file} holds no private key in PEM that is open: {error}") from error
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise ModaError(f"the key {key_file} does not belong to the certificate {certificate}")


def own_certificate() -> tuple[str, str]:
    """This machine's chain and key, made at first use in the user's folder of settings, the key for the user alone."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "moda"
    place = folder / "credentials.pem"  # key and chain in one file, so that they belong together
    if not place.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole(place) as part:
                part.touch(0o600)
                part.chmod(0o600)
                part.write_text("".join(_made()))
        except OSError as error:
            raise ModaError(f"the certificate {place} cannot be made: {why(error)}") from error
    try:
        text = place.read_text()
    except OSError as error:
        raise ModaError(f"the certificate {place} cannot be read: {why(error)}") from error
    head, mark, chain = text.partition("-----BEGIN CERTIFICATE-----")
    if not mark or "PRIVATE KEY" not in head:
        raise ModaError(f"{place} holds no key and certificate; remove it, and new ones are made")
    return mark + chain, head


def _made() -> tuple[str, str, str]:
    """-> key, leaf, root, PEM. A leaf that signs itself is refused by readers, so a root of its own vouches for it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.timezone.utc)
    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def name(text: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(x509.NameOID.COMMON_NAME, text),
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "moda, made on this machine"),
            ]
        )

    root_name, leaf_name = name("moda local root"), name("moda local signer")

    def certificate(subject: x509.Name, key: Any, is_root: bool) -> x509.Certificate:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only"), False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usage
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False
            )
        )
        if not is_root:
            purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=True)
        return builder.sign(keys[0], hashes.SHA256())

    root, leaf = certificate(root_name, keys[0], True), certificate(leaf_name, keys[1], False)
    pem = serialization.Encoding.PEM
    key = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.decode(), leaf.public_bytes(pem).decode(), root.public_bytes(pem).decode()


def save_signed(
    save: Callable[[Path], object], path: Path, signing: Signing, inputs: Sequence[Path] = (), **made: object
) -> Path:
    """Let `save` write a file, sign it, read it back; only what verifies takes its name.

    inputs: portrait, sound and what else it was made of; made: model, seed and the like, for the statement.
    Errors: ModaError for a container that cannot carry credentials, a certificate that is refused.
    """
    check_signable(path)
    chain, key = signing.load()
    import c2pa

    with _folder_beside(path) as folder:
        plain = folder / f"plain{path.suffix}"
        try:
            save(plain)
        except ModaError as error:  # a full disk, most often: of the file that was asked for
            raise ModaError(str(error).replace(str(plain), str(path))) from error
        with whole(path) as part:
            try:
                builder = c2pa.Builder(_statement(path, inputs, made))
                for file in inputs:
                    _add(builder, file)
                info = c2pa.C2paSignerInfo(b"es256", chain.encode(), key.encode(), None)
                with c2pa.Signer.from_info(info) as signer:
                    with open(plain, "rb") as source, open(part, "w+b") as signed:
                        builder.sign(signer, TYPES[path.suffix.lower()], source, signed)
            except c2pa.C2paError as error:
                raise ModaError(f"{path} cannot be signed: {error}") from error
            problems = _problems(_read(part, TYPES[path.suffix.lower()]))
            if problems:
                raise ModaError(f"{path} was signed, but does not verify: {', '.join(problems)}")
    return path


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix=".moda-", dir=path.parent)
    except OSError as error:
        raise ModaError(f"cannot write {path}: {why(error)}") from error
    with folder as name:
        yield Path(name)


def check_signable(path: Path) -> None:
    """Errors: ModaError for a container that cannot carry credentials."""
    if path.suffix.lower() not in TYPES:
        raise ModaError(f"{path.suffix} files cannot carry credentials; write one of {', '.join(TYPES)}")


def _statement(path: Path, inputs: Sequence[Path], made: dict[str, object]) -> str:
    sources = [{"name": file.name, "sha256": _digest(file)} for file in inputs]
    action = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": {"name": "moda", "version": __version__},
        "parameters": {"inputs": sources, **{name: str(value) for name, value in made.items()}},
    }
    return json.dumps(
        {
            "title": path.name,
            "claim_generator_info": [{"name": "moda", "version": __version__}],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
        }
    )


def _add(builder: Any, file: Path) -> None:
    """As an ingredient, where its kind can be one; its digest stands in the statement anyway."""
    import c2pa

    kind = mimetypes.guess_type(file.name)[0]
    kind = {"audio/x-wav": "audio/wav"}.get(kind or "", kind)
    if kind not in c2pa.Reader.get_supported_mime_types():
        return
    try:
        with open(file, "rb") as stream:
            builder.add_ingredient(json.dumps({"title": file.name, "relationship": "inputTo"}), kind, stream)
    except c2pa.C2paError:  # its content is not what its name says
        return


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        digest = hashlib.sha256()
        while piece := stream.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest()


def _read(path: Path, kind: str) -> dict:
    """The manifest store. Errors: c2pa's, where there is none."""
    import c2pa

    with open(path, "rb") as stream, c2pa.Reader(kind, stream) as reader:
        return json.loads(reader.json())


def _problems(store: dict) -> list[str]:
    """What is wrong with a file's credentials, but that nobody vouches for the signer."""
    codes = [status.get("code", "") for status in store.get("validation_status", [])]
    return [code for code in codes if code != UNTRUSTED]


def known(path: str | os.PathLike) -> list[str]:
    """What can be told of a file, line by line; none if nothing is. Errors: ModaError if it cannot be read."""
    path = check_input(path, "file")
    lines = []
    remark = comment(path)
    if remark:
        lines.append(f"metadata: {' '.join(remark.split())}")
    try:
        import c2pa
    except ImportError:
        return [*lines, f"credentials: not looked at; {_MISSING}"]
    kind = mimetypes.guess_type(path.name)[0] or TYPES.get(path.suffix.lower(), "")
    try:
        store = _read(path, kind)
    except c2pa.C2paError as error:
        said = type(error).__name__ + str(error)
        if any(word in said for word in ("ManifestNotFound", "no JUMBF", "NotSupported")):
            return lines  # there are none, or none can be in a file of this kind
        return [*lines, f"{BROKEN}: {error}"]
    manifest = store["manifests"][store["active_manifest"]]
    problems = _problems(store)
    trust = [status for status in store.get("validation_status", []) if status.get("code") == UNTRUSTED]
    state = f"{BROKEN}: {', '.join(problems)}" if problems else "credentials: whole, as it was signed"
    lines.append(f"{state}{'; the signer is not a known one' if trust else ''}")
    issuer = manifest.get("signature_info", {})
    lines.append(f"signed by: {issuer.get('common_name') or issuer.get('issuer') or 'unknown'}")
    for assertion in manifest.get("assertions", []):
        for action in assertion.get("data", {}).get("actions", []):
            source = action.get("digitalSourceType", "").rpartition("/")[2]
            lines.append(f"action: {action['action']}{f', {source}' if source else ''}")
            for name, value in action.get("parameters", {}).items():
                if isinstance(value, str):
                    lines.append(f"  {name}: {value}")
    lines += [f"made of: {one.get('title') or '?'}" for one in manifest.get("ingredients", [])]
    return lines
