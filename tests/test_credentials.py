"""Content credentials: what is signed is read back; what was changed afterwards is told."""

from __future__ import annotations

import errno
import stat

import pytest

from moda import ModaError
from moda.cli import run

c2pa = pytest.importorskip("c2pa")

from moda.interchange.credentials import Signing, known, own_certificate, save_signed  # noqa: E402
from moda.media.files import whole  # noqa: E402


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def video(tmp_path_factory, tiny, portrait):
    from moda import TalkingHead
    from moda.audio.decode import read_audio

    path = tmp_path_factory.mktemp("videos") / "plain.mp4"
    wave = read_audio(portrait.parent / "speech.wav")[:16_000]
    TalkingHead.from_pretrained(tiny, "cpu")(portrait, wave, size=64).save(path)
    return path


def test_a_signed_file_tells_what_it_is(video, portrait, tmp_path):
    out = tmp_path / "signed.mp4"
    save_signed(
        lambda path: path.write_bytes(video.read_bytes()), out, Signing(), [portrait], model="tiny", seed=3
    )
    lines = "\n".join(known(out))
    assert "synthetic media" in lines and "whole, as it was signed" in lines and "not a known one" in lines
    assert "compositeWithTrainedAlgorithmicMedia" in lines and "seed: 3" in lines
    assert "made of: astronaut.jpg" in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config", "signed.mp4"]
    place = tmp_path / "config" / "moda" / "credentials.pem"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert own_certificate() == own_certificate()


def test_a_changed_file_is_told(video, tmp_path):
    out = tmp_path / "signed.mp4"
    save_signed(lambda path: path.write_bytes(video.read_bytes()), out, Signing())
    data = bytearray(out.read_bytes())
    data[-2000] ^= 0xFF
    out.write_bytes(data)
    assert any("broken: assertion.bmffHash.mismatch" in line for line in known(out))
    assert run(["verify", str(out)]) == 2


def test_files_without_credentials(video, portrait, tmp_path):
    assert known(video)[0].startswith("metadata: synthetic media") and len(known(video)) == 1
    assert known(portrait) == []
    (tmp_path / "x.mp4").write_bytes(b"no video")
    known(tmp_path / "x.mp4")  # nothing is known, nothing breaks
    with pytest.raises(ModaError, match="there is no file"):
        known(tmp_path / "missing.mp4")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "x.mkv", "--sign"], "cannot carry credentials"),
        (["-o", "x.mp4", "--sign-key", "k.pem"], "need --sign"),
        (["-o", "x.mp4", "--sign", "--sign-key", "k.pem"], "together"),
        (["-o", "x.mp4", "--sign", "--sign-key", "k.pem", "--sign-cert", "c.pem"], "no certificate c.pem"),
    ],
)
def test_mistakes_are_said_before_any_work(options, said, portrait, speech, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["generate", str(portrait), str(speech), *options]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.glob("x*"))


def test_a_certificate_that_is_refused_leaves_nothing(video, tmp_path):
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("no certificate")
    signing = Signing(tmp_path / "c.pem", tmp_path / "k.pem")
    with pytest.raises(ModaError, match="c.pem holds no certificate"):
        save_signed(lambda path: path.write_bytes(video.read_bytes()), tmp_path / "x.mp4", signing)
    assert not (tmp_path / "x.mp4").exists() and not list(tmp_path.glob(".moda*"))


def test_keys_that_are_none_are_told_before_any_work(tmp_path, video):
    chain, key = own_certificate()
    (tmp_path / "text.pem").write_text("hello\n")
    (tmp_path / "chain.pem").write_text(chain)
    (tmp_path / "key.pem").write_text(key)
    assert Signing(tmp_path / "chain.pem", tmp_path / "key.pem").load() == (chain, key)
    with pytest.raises(ModaError, match="text.pem holds no certificate"):
        Signing(tmp_path / "text.pem", tmp_path / "key.pem").load()
    with pytest.raises(ModaError, match="text.pem holds no private key"):
        Signing(tmp_path / "chain.pem", tmp_path / "text.pem").load()
    (tmp_path / "config" / "moda" / "credentials.pem").unlink()
    (tmp_path / "other.pem").write_text(own_certificate()[1])
    with pytest.raises(ModaError, match="does not belong"):
        Signing(tmp_path / "chain.pem", tmp_path / "other.pem").load()


def test_files_that_cannot_carry_credentials_are_not_called_broken(tmp_path):
    (tmp_path / "text.txt").write_text("hello\n")
    assert known(tmp_path / "text.txt") == [] and run(["verify", str(tmp_path / "text.txt")]) == 0


def test_a_full_disk_is_told_of_the_file_that_was_asked_for(tmp_path):
    def save(path):
        with whole(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ModaError) as caught:
        save_signed(save, tmp_path / "x.mp4", Signing())
    assert str(caught.value) == f"cannot write {tmp_path / 'x.mp4'}: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["config"]  # the certificate's
