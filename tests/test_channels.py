"""Sound of many channels, rates and tracks -> what the encoder and the listener get."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import tone

from moda.audio.decode import iter_audio, open_listening, read_audio
from moda.audio.downmix import Downmix, to_stereo
from moda.errors import ModaError

RATE = 16_000
FILM = ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")


def voice(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes, (n,) float64."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.2 * rng.standard_normal(len(time)) * (1 + np.sin(2 * np.pi * 3 * time))


def mixed(wave: np.ndarray, names: tuple[str, ...], cut: int = 999) -> np.ndarray:
    mix = Downmix(names, RATE)
    pieces = [p for start in range(0, len(wave), cut) for p in mix.push(wave[start : start + cut])]
    return np.concatenate([*pieces, *mix.flush()])


@pytest.mark.parametrize("gains", [(1, 1), (1, 0), (0, 1), (1, -1), (-1, 1)])
def test_a_voice_is_as_loud_in_one_channel_as_in_two(gains):
    v = voice()
    out = mixed((v[:, None] * gains).astype(np.float32), ("FL", "FR"))
    assert abs(np.corrcoef(out, v)[0, 1]) > 0.999
    assert out.std() == pytest.approx(v.std(), rel=0.01)


def test_two_people_on_a_channel_each_are_both_heard():
    a, b = voice(seed=1), voice(seed=2)
    out = mixed(np.stack([a, b], axis=1).astype(np.float32), ("FL", "FR"))
    assert np.corrcoef(out, a)[0, 1] > 0.6 and np.corrcoef(out, b)[0, 1] > 0.6


def test_a_film_has_its_voice_in_the_middle():
    v, music, rumble = voice(seed=1), voice(seed=2), voice(seed=3)
    wave = np.stack([music, music, v, 3 * rumble, music, music, music, music], axis=1).astype(np.float32)
    out = mixed(wave, FILM)
    assert np.corrcoef(out, v)[0, 1] > 0.6  # one channel of the voice, six of the same music
    assert abs(np.corrcoef(out, rumble)[0, 1]) < 0.05
    assert np.corrcoef(mixed(wave * (np.arange(8) == 2), FILM), v)[0, 1] > 0.999


def test_mixing_does_not_depend_on_the_pieces():
    wave = np.stack([voice(seed=seed) for seed in range(3)], axis=1).astype(np.float32)
    assert np.array_equal(mixed(wave, ("FL", "FR", "FC"), 77), mixed(wave, ("FL", "FR", "FC"), 100_000))


def test_silence_stays_silence():
    assert not mixed(np.zeros((5000, 2), np.float32), ("FL", "FR")).any()


def test_stereo_keeps_its_sides():
    wave = np.eye(8, dtype=np.float32)
    out = to_stereo(wave, FILM)
    assert out[0, 1] == out[1, 0] == 0 and out[0, 0] == out[1, 1] > 0
    assert out[2, 0] == out[2, 1] > 0 and not out[3].any()
    assert (np.abs(out).sum(axis=0) <= 1.0001).all()


def write(path: Path, parts: list[tuple[np.ndarray, int, float]], codec: str, tracks: int = 1) -> Path:
    """Each part (n, C) at a rate from a time on; track k holds part k, or one track all of them."""
    with av.open(str(path), "w") as out:
        streams = []
        for wave, rate, _ in parts[:tracks]:
            layout = {1: "mono", 2: "stereo"}.get(wave.shape[1], f"{wave.shape[1]} channels")
            streams.append(out.add_stream(codec, rate=rate, layout=layout))
        for index, (wave, rate, start) in enumerate(parts):
            stream = streams[min(index, tracks - 1)]
            layout = stream.layout
            for begin in range(0, len(wave), 1024):
                piece = np.ascontiguousarray(wave[begin : begin + 1024] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="s16", layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(start * rate) + begin
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("channels", [3, 8, 16, 24, 64])
def test_many_channels(channels, tmp_path):
    import wave as waves

    sound = np.zeros((RATE, channels), np.float32)
    sound[:, channels // 2] = tone(1.0)[:, 0]
    with waves.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((sound * 32767).astype(np.int16).tobytes())
    heard = read_audio(tmp_path / "a.wav")
    assert len(heard) == RATE and np.abs(heard).max() == pytest.approx(0.5, abs=0.01)
    listening = open_listening(tmp_path / "a.wav")
    assert listening.channels == 2
    out = np.concatenate(list(listening.pieces))
    assert out.shape == (RATE, 2) and 0.001 < np.abs(out).max() <= 0.51


def test_too_many_channels_are_one_line(tmp_path):
    import wave as waves

    with waves.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(80)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(bytes(160 * RATE))
    with pytest.raises(ModaError, match="80 channels|cannot be"):
        read_audio(tmp_path / "a.wav")


def test_the_first_track_with_sound(tmp_path, caplog):
    silent, loud = np.zeros((RATE, 1), np.float32), tone(1.0)
    path = write(tmp_path / "a.mkv", [(silent, RATE, 0), (loud, RATE, 0)], "pcm_s16le", tracks=2)
    assert np.abs(read_audio(path)).max() > 0.4
    assert "2 sound tracks; number 2" in caplog.text
    caplog.clear()
    path = write(tmp_path / "b.mkv", [(loud, RATE, 0), (silent, RATE, 0)], "pcm_s16le", tracks=2)
    assert np.abs(read_audio(path)).max() > 0.4
    assert "2 sound tracks; the first" in caplog.text


def test_a_gap_is_as_long_as_the_stamps_say(tmp_path):
    path = write(tmp_path / "a.mkv", [(tone(1.0), RATE, 0), (tone(1.0), RATE, 1.7)], "pcm_s16le")
    heard = read_audio(path)
    assert len(heard) == pytest.approx(2.7 * RATE, abs=0.002 * RATE)
    assert np.abs(heard[round(1.02 * RATE) : round(1.68 * RATE)]).max() < 1e-3
    assert np.abs(heard[round(1.72 * RATE) :]).max() > 0.4


def test_a_leap_of_hours_is_no_gap(tmp_path):
    path = write(tmp_path / "a.mkv", [(tone(1.0), RATE, 0), (tone(1.0), RATE, 9000.0)], "pcm_s16le")
    assert len(read_audio(path)) == pytest.approx(2 * RATE, abs=200)


@pytest.mark.parametrize("start, expected", [(0.5, 1.5), (90.0, 91.0), (50_000.0, 1.0)])
def test_sound_that_begins_late(start, expected, tmp_path):
    quiet = np.zeros((RATE, 1), np.float32)
    path = write(tmp_path / "a.mkv", [(tone(1.0), RATE, start), (quiet, RATE, 0)], "pcm_s16le", tracks=2)
    assert len(read_audio(path)) == pytest.approx(expected * RATE, abs=50)


def test_joined_files_change_rate_and_channels(tmp_path):
    parts = []
    for index, (rate, channels) in enumerate([(44_100, 2), (22_050, 1), (44_100, 2)]):
        path = tmp_path / f"{index}.mp3"
        with av.open(str(path), "w") as out:
            layout = "mono" if channels == 1 else "stereo"
            stream = out.add_stream("libmp3lame", rate=rate, layout=layout)
            wave = np.ascontiguousarray(tone(2.0, rate, channels).T)
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
        parts.append(path.read_bytes())
    (tmp_path / "all.mp3").write_bytes(b"".join(parts))
    heard = np.concatenate(list(iter_audio(tmp_path / "all.mp3")))
    assert len(heard) / RATE == pytest.approx(6, abs=0.3)
    for second in (1, 3, 5):
        part = heard[round((second - 0.5) * RATE) : round((second + 0.5) * RATE)]
        assert np.abs(part).max() == pytest.approx(0.5, abs=0.05)
        assert np.argmax(np.abs(np.fft.rfft(part))) == pytest.approx(440, abs=3)  # nothing at a wrong speed
    listening = open_listening(tmp_path / "all.mp3")
    assert {piece.shape[1] for piece in listening.pieces} == {2}
