"""Sound: decoding of any file, log-mel against an independent computation, streams equal to the whole."""

import numpy as np
import pytest
from conftest import tone, write_sound
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from moda.audio.decode import frames_in, iter_audio, open_listening, read_audio, rechunk, sound_seconds
from moda.audio.mel import BANDS, FLOOR, LogMel, slaney_filters
from moda.errors import ModaError


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_channels(tmp_path, rate, channels):
    wave = read_audio(write_sound(tmp_path / "a.wav", tone(1.0, rate, channels), rate))
    assert wave.dtype == np.float32
    assert len(wave) == pytest.approx(16_000, abs=2)
    inner = slice(400, -400)
    assert np.abs(wave[inner] - tone(1.0)[:, 0][: len(wave)][inner]).max() < 0.01


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.m4a", "a.mkv", "a.opus", "a.aiff", "a.wav"])
def test_any_container_and_codec(tmp_path, name):
    rate = 48_000 if name.endswith(("opus", "ogg")) else 44_100
    wave = read_audio(write_sound(tmp_path / name, tone(2.0, rate), rate))
    assert abs(len(wave) - 32_000) <= 640  # codecs may pad, by less than a frame
    spectrum = np.abs(np.fft.rfft(wave[8_000:24_000]))
    assert spectrum.argmax() == 440
    assert np.std(wave[8_000:24_000]) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


def test_channels_are_averaged_not_added(tmp_path):
    wave = np.zeros((16_000, 6), np.float32)
    wave[:, :] = 0.9
    assert np.abs(read_audio(write_sound(tmp_path / "a.wav", wave, 16_000))).max() < 0.91
    left = tone(1.0, channels=2) * np.float32([1, 0])
    mono = read_audio(write_sound(tmp_path / "b.wav", left, 16_000))
    assert np.allclose(mono, left[:, 0], atol=1e-4)  # a channel without sound takes nothing away


@pytest.mark.parametrize("seconds", [0.04, 0.33, 5.0])
def test_pieces_join_to_the_whole(speech, seconds):
    pieces = list(iter_audio(speech, seconds))
    assert all(len(piece) == round(seconds * 16_000) for piece in pieces[:-1])
    assert np.array_equal(np.concatenate(pieces), read_audio(speech))
    assert len(read_audio(speech)) == pytest.approx(16_000 * sound_seconds(speech), abs=16)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 30))
def test_rechunk_keeps_everything_in_order(lengths, size):
    wave = np.arange(sum(lengths))
    pieces = list(rechunk(np.split(wave, np.cumsum(lengths)[:-1]) if lengths else [], size))
    assert np.array_equal(np.concatenate([*pieces, wave[:0]]), wave)
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces)


def test_a_file_that_breaks_off_gives_what_it_holds(tmp_path):
    path = write_sound(tmp_path / "a.mp3", tone(4.0), 16_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 1.5 < len(read_audio(path)) / 16_000 < 2.5


def test_silence_is_fine(tmp_path):
    wave = read_audio(write_sound(tmp_path / "a.wav", np.zeros((16_000, 1), np.float32), 16_000))
    assert len(wave) == 16_000 and not wave.any()


def test_numbers_that_are_none_become_silence(tmp_path):
    wave = tone(1.0)
    wave[5000:6000] = np.nan
    read = read_audio(write_sound(tmp_path / "a.wav", wave, 16_000, codec="pcm_f32le"))
    assert np.isfinite(read).all() and np.abs(read).max() > 0.4


def test_less_than_a_frame_is_an_error(tmp_path):
    path = write_sound(tmp_path / "a.wav", tone(0.039), 16_000)
    with pytest.raises(ModaError, match="39 ms"):
        read_audio(path)
    assert len(read_audio(write_sound(tmp_path / "b.wav", tone(0.04), 16_000))) == 640


@pytest.mark.parametrize("rate, channels, kept", [(8_000, 1, 8_000), (11_025, 2, 11_025), (15_000, 1, 16_000),
                                                  (44_100, 2, 44_100), (96_000, 6, 48_000)])  # fmt: skip
def test_listeners_get_the_files_own_quality(tmp_path, rate, channels, kept):
    sound = open_listening(write_sound(tmp_path / "a.wav", tone(1.0, rate, channels), rate))
    wave = np.concatenate(list(sound.pieces))
    assert (sound.rate, sound.channels) == (kept, min(2, channels))
    assert wave.shape[1] == sound.channels
    assert len(wave) == pytest.approx(kept, abs=2)
    assert np.abs(wave).max() <= 1


def test_a_rate_that_holds_no_speech_is_an_error(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(write_sound(tmp_path / "b.wav", tone(1.0), 16_000).read_bytes())
    data = bytearray(path.read_bytes())
    data[24:28] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ModaError, match="100 samples a second, in which no speech can be heard; 2000"):
        read_audio(path)


@pytest.mark.parametrize(
    "gain, said", [(1.2, ""), (5.0, "louder than full scale"), (0.005, "too quiet"), (0.02, "")]
)
def test_sound_too_loud_or_too_quiet_is_told(tmp_path, caplog, gain, said):
    wave = gain * tone(3.0) / np.abs(tone(3.0)).max()
    sound = open_listening(write_sound(tmp_path / "a.wav", wave, 16_000, codec="pcm_f32le"))
    assert np.abs(np.concatenate(list(sound.pieces))).max() == pytest.approx(min(gain, 1), rel=0.01)
    assert len(caplog.messages) == bool(said) and said in caplog.text


# -- log-mel -----------------------------------------------------------------------------------


def test_mel_equals_scipys_spectrogram(speech):
    wave = read_audio(speech)
    mel = LogMel().whole(wave)
    count = 4 * frames_in(len(wave))
    assert mel.shape == (count, BANDS)
    # SciPy's windows are 512 long here, the 400 of ours centered in them; their first sample is 160 k + 80 - 256
    window = np.pad(signal.get_window("hann", 400), 56)
    padded = np.pad(wave.astype(np.float64), (256 - 80, 1024))
    _, _, spectrum = signal.stft(
        padded, window=window, nperseg=512, noverlap=352, boundary=None, padded=False, scaling="spectrum"
    )
    power = np.abs(spectrum[:, :count] * window.sum()) ** 2
    expected = np.log(power.T @ slaney_filters() + FLOOR)
    assert np.abs(mel - expected).max() < 1e-4


def test_filters_are_slaneys():
    filters = slaney_filters()
    assert filters.shape == (257, 80)
    bins = np.fft.rfftfreq(512, 1 / 16_000)
    centers = bins[filters.argmax(axis=0)]
    # 45.245 mel up to 8000 Hz: linear to 1000 Hz = 15 mel, then a factor 6.4 every 27
    mel = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 82)[1:-1]
    hz = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    assert np.abs(centers - hz).max() <= 16
    assert np.allclose(filters.sum(axis=0)[20:] * 31.25, 1, atol=0.12)  # unit area
    assert (filters.max(axis=0) > 0).all()


def test_a_click_is_seen_by_the_frames_around_it():
    wave = np.zeros(16_000, np.float32)
    wave[640 * 10 + 320] = 1  # the middle of video frame 10
    heard = (LogMel().whole(wave) > np.log(FLOOR) + 1).any(axis=1).nonzero()[0]
    assert (heard.min() + heard.max()) / 2 == 4 * 10 + 1.5  # its four mel frames lie symmetrically about it


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 6_000), st.lists(st.integers(0, 6_000), max_size=8), st.integers(0, 99))
def test_mel_stream_equals_the_whole(samples, cuts, seed):
    wave = np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.1
    pieces = np.split(wave, sorted(min(cut, samples) for cut in cuts))
    stream = LogMel().stream()
    parts = [*map(stream.push, pieces), stream.flush()]
    streamed = np.concatenate([*parts, np.zeros((0, BANDS), np.float32)])
    assert np.array_equal(streamed, LogMel().whole(wave))
    assert len(streamed) == 4 * frames_in(samples)
    assert all(len(part) % 4 == 0 for part in parts)


def test_mel_stream_is_prompt():
    stream = LogMel().stream()
    made = 0
    for given_samples in range(160, 6401, 160):
        made += len(stream.push(np.zeros(160, np.float32))) // 4
        assert given_samples < (made + 1) * 640 + 160 + 120  # no more than one piece late
