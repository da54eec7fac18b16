"""Videos in and out: exact timing, upright pictures, sound in step, all or nothing."""

import cv2
import numpy as np
import pytest
from conftest import tone, write_frames, write_sound
from hypothesis import given, settings
from hypothesis import strategies as st

from moda.audio.decode import Sound, open_listening, read_audio, rechunk
from moda.errors import ModaError
from moda.media.picture import read_picture
from moda.media.read import probe, read_video, timed_frames
from moda.media.write import VideoWriter, write_video

SIDE = 64


def numbered(number: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A gray picture whose level tells its number, 0..50."""
    return np.full((height, width, 3), 20 + 4 * number, np.uint8)


def number_of(frame: np.ndarray) -> int:
    return round((float(frame.mean()) - 20) / 4)


@pytest.mark.parametrize("rate, expected", [
    (25, list(range(30))),
    (50, [2 * k + 1 for k in range(15)]),  # at (k + 1/2) / 25 s the second one of each pair has just come
    (10, [int((k + 0.5) / 25 * 10) for k in range(75)]),
    (30, [int((k + 0.5) / 25 * 30) for k in range(25)]),
])  # fmt: skip
def test_any_rate_becomes_25(tmp_path, rate, expected):
    frames = [numbered(k) for k in range(30)]
    read = list(read_video(write_frames(tmp_path / "a.mp4", frames, rate=rate)))
    assert [number_of(frame) for frame in read] == expected


def test_variable_rate_keeps_its_timing(tmp_path):
    times = [0.0, 0.1, 0.14, 0.9, 1.0, 1.5]
    path = write_frames(tmp_path / "a.mp4", [numbered(k) for k in range(6)], times)
    read = [number_of(frame) for frame in read_video(path)]
    shown = [max(i for i, t in enumerate(times) if t <= (k + 0.5) / 25) for k in range(len(read))]
    assert read == shown
    assert len(read) >= 1.5 * 25
    own = list(timed_frames(path))
    assert [number_of(frame) for _, frame, _ in own] == list(range(6))
    assert np.allclose([time for time, _, _ in own], times, atol=0.002)


@pytest.mark.parametrize("rotate", [0, 90, 180, -90])
def test_pictures_come_upright(tmp_path, rotate):
    """A player turns the stored frame counter-clockwise by the angle that the file names."""
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:20, :30] = (255, 0, 0)  # top left
    frame = next(read_video(write_frames(tmp_path / "a.mp4", [stored] * 3, rotate=rotate)))
    expected = np.rot90(stored, rotate // 90)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 8


def late(folder, picture: float, sound: float):
    """30 numbered frames and 0.8 s of a tone, begun so many seconds late, in one file."""
    import av

    silent = write_frames(folder / "v.mp4", [numbered(k) for k in range(30)])
    wave = write_sound(folder / "s.wav", tone(0.8), 16_000)
    with av.open(str(folder / "a.mkv"), "w") as out, av.open(str(silent)) as v, av.open(str(wave)) as a:
        packets = []
        for source, delay in ((v.streams.video[0], picture), (a.streams.audio[0], sound)):
            stream = out.add_stream_from_template(source)
            for packet in source.container.demux(source):
                if packet.dts is None:
                    continue
                shift = round(delay / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return folder / "a.mkv"


def test_a_picture_that_begins_late_holds_its_first_frame(tmp_path):
    """Sound from 0 s, picture from 0.4 s: frame k belongs to sound 640 k, so ten frames come first."""
    read = [number_of(frame) for frame in read_video(late(tmp_path, picture=0.4, sound=0.0))]
    assert read == [0] * 10 + list(range(30))


def test_sound_that_begins_late_is_led_by_silence(tmp_path):
    path = late(tmp_path, picture=0.0, sound=0.4)
    wave = read_audio(path)
    assert len(wave) == pytest.approx(1.2 * 16_000, abs=32)
    assert not wave[: 6400 - 32].any() and np.abs(wave[6400:7000]).max() > 0.2
    heard = np.concatenate(list(open_listening(path).pieces))
    assert len(heard) == pytest.approx(len(wave), abs=32)


def test_probe(tmp_path, speech):
    info = probe(write_frames(tmp_path / "a.mp4", [numbered(0)] * 50))
    assert (info.width, info.height, info.fps, info.frames, info.has_sound) == (SIDE, SIDE, 25, 50, False)
    with pytest.raises(ModaError, match="no picture"):
        probe(speech)


# -- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.MP4"])
def test_what_is_written_can_be_read(tmp_path, name):
    frames = [numbered(k % 50) for k in range(60)]
    wave = tone(60 / 25, 44_100, 2)
    path = write_video(tmp_path / name, frames, Sound(44_100, 2, iter([wave])))
    assert [number_of(frame) for frame in read_video(path)] == [k % 50 for k in range(60)]
    heard = open_listening(path)
    assert (heard.rate, heard.channels) == (44_100, 2)
    assert list(tmp_path.iterdir()) == [path]


def test_colors_are_kept(tmp_path, portrait):
    picture = read_picture(portrait)
    path = write_video(tmp_path / "a.mp4", [picture] * 5)
    difference = list(read_video(path))[2].astype(float) - picture
    assert np.abs(difference.mean(axis=(0, 1))).max() < 2
    assert np.abs(difference).mean() < 3


def test_sound_stays_in_step(tmp_path):
    """A click at 1.2 s and a flash in frame 30 come back at the same moment."""
    wave = np.zeros((2 * 48_000, 1), np.float32)
    wave[round(1.2 * 48_000)] = 1
    frames = [numbered(40 if k == 30 else 0) for k in range(50)]
    path = write_video(tmp_path / "a.mp4", frames, Sound(48_000, 1, iter([wave])))
    assert np.abs(read_audio(path)).argmax() / 16_000 == pytest.approx(1.2, abs=0.002)
    assert [number_of(frame) > 20 for frame in read_video(path)].index(True) == 30


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0])
def test_the_sound_ends_with_the_picture(tmp_path, seconds):
    path = write_video(
        tmp_path / "a.mp4", [numbered(0)] * 50, Sound(16_000, 1, rechunk([tone(seconds)], 999))
    )
    assert len(list(read_video(path))) == 50
    assert len(read_audio(path)) / 16_000 == pytest.approx(
        min(seconds, 2.02), abs=0.07
    )  # an AAC block is 64 ms


@settings(max_examples=8, deadline=None)
@given(st.integers(64, 90), st.integers(64, 90))
def test_odd_sizes_lose_nothing(tmp_path_factory, width, height):
    picture = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8), (0, 0), 9
    )
    path = write_video(tmp_path_factory.mktemp("v") / "a.mp4", [picture] * 3)
    frame = next(read_video(path))
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(frame[:height, :width].astype(int) - picture).mean() < 6


def test_the_index_comes_first(tmp_path):
    """So that a browser can start before the file is there."""
    data = write_video(tmp_path / "a.mp4", [numbered(0)] * 10).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, ModaError])
def test_nothing_stays_when_frames_break_off(tmp_path, error):
    def frames():
        for k in range(20):
            yield numbered(k)
        raise error

    old = tmp_path / "a.mp4"
    old.write_bytes(b"an older video")
    with pytest.raises(error):
        write_video(old, frames(), Sound(16_000, 1, iter([tone(5.0)])))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert old.read_bytes() == b"an older video"


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / "a.mp4", (SIDE, SIDE))
    with pytest.raises(ModaError, match="No space|no space"), writer:
        writer.write(numbered(0))

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(writer, "container", type("C", (), {"mux": full, "close": lambda _: None})())
        for k in range(50):
            writer.write(numbered(k % 50))
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_are_an_error(tmp_path):
    with pytest.raises(ModaError, match="64x64"):
        write_video(tmp_path / "a.mp4", [numbered(0), numbered(1, 32, 32)])
    assert not list(tmp_path.iterdir())


# -- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif"])
def test_picture_formats(tmp_path, portrait, name):
    picture = read_picture(portrait)
    cv2.imwrite(str(tmp_path / name), picture[..., ::-1])
    assert np.abs(read_picture(tmp_path / name).astype(int) - picture).mean() < 3


def test_gray_16_bit_and_transparent_pictures(tmp_path, portrait):
    picture = read_picture(portrait)
    bgr = picture[..., ::-1]
    cv2.imwrite(str(tmp_path / "16.png"), bgr.astype(np.uint16) * 257)
    assert np.array_equal(read_picture(tmp_path / "16.png"), picture)
    cv2.imwrite(str(tmp_path / "gray.png"), bgr[..., 1])
    assert np.array_equal(read_picture(tmp_path / "gray.png"), np.repeat(picture[..., 1:2], 3, 2))
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[100:200] = 255
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([bgr, alpha]))
    read = read_picture(tmp_path / "alpha.png")
    assert np.array_equal(read[100:200], picture[100:200])
    assert (np.delete(read, np.s_[100:200], axis=0) == 255).all()


@pytest.mark.parametrize("orientation, turn", [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_exif_orientation(tmp_path, portrait, orientation, turn):
    """Orientation 6: the stored picture must be turned clockwise once to be upright."""
    upright = read_picture(portrait)[:400]
    _, data = cv2.imencode(".jpg", np.rot90(upright, turn)[..., ::-1])
    tag = b"\x12\x01\x03\x00\x01\x00\x00\x00" + bytes([orientation, 0, 0, 0])
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00" + tag + b"\x00\x00\x00\x00"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    data = data.tobytes()
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    read = read_picture(tmp_path / "a.jpg")
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).mean() < 5


ORIENTED = {
    "jpg": {"quality": 98},
    "png": {},
    "webp": {"lossless": True},
    "tiff": {},
    "avif": {"quality": 95},
}


@pytest.mark.parametrize("suffix", ORIENTED)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_turned_upright(suffix, orientation, portrait, tmp_path):
    from PIL import Image

    stored = Image.fromarray(read_picture(portrait)).resize((96, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **ORIENTED[suffix])
    # EXIF 2.32, 4.6.5.1: which side of what is stored is the top, and which the left one.
    turned = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
              7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
    wanted = stored.transpose(Image.Transpose[turned[orientation]]) if orientation > 1 else stored
    got = read_picture(tmp_path / f"a.{suffix}")
    assert got.shape[:2] == (wanted.height, wanted.width)
    assert np.abs(got.astype(int) - np.asarray(wanted)).mean() < 6


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_of_an_animation_the_first_picture(suffix, tmp_path, caplog):
    from PIL import Image

    first, second = Image.new("RGB", (80, 80), (200, 30, 30)), Image.new("RGB", (80, 80), (30, 30, 200))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    assert np.abs(read_picture(tmp_path / f"a.{suffix}").mean(axis=(0, 1)) - [200, 30, 30]).max() < 6
    assert "2 pictures; the first" in caplog.text


def test_pictures_in_other_hands(portrait):
    """Arrays and PIL images are checked, and turned, as files are."""
    from PIL import Image

    from moda.media.picture import as_picture

    pixels = read_picture(portrait)
    assert np.array_equal(as_picture(Image.open(portrait))[0], pixels)
    assert np.array_equal(as_picture(pixels)[0], pixels)
    clear = Image.fromarray(pixels).convert("RGBA")
    clear.putalpha(0)
    assert (as_picture(clear)[0] == 255).all()
    for wrong in (
        pixels.astype(float),
        pixels[..., 0],
        pixels[:10, :10],
        Image.new("RGB", (20, 20)),
        None,
        7,
    ):
        with pytest.raises(ModaError):
            as_picture(wrong)


def test_two_writers_of_one_name(tmp_path):
    frames = [np.full((64, 64, 3), value, np.uint8) for value in (50, 200)]
    path = tmp_path / "a.mp4"
    with VideoWriter(path, (64, 64)) as one:
        one.write(frames[0])
        with VideoWriter(path, (64, 64)) as other:
            for _ in range(5):
                other.write(frames[1])
        assert len(list(read_video(path))) == 5
        one.write(frames[0])
    assert len(list(read_video(path))) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_writer_that_cannot_open_leaves_nothing(tmp_path):
    with pytest.raises(ModaError), VideoWriter(tmp_path / "a.mp4", (0, 64)):
        pass
    assert not list(tmp_path.iterdir())


def test_damaged_packets_are_left_out(tmp_path, portrait, caplog):
    picture = read_picture(portrait)
    path = write_frames(tmp_path / "a.mp4", [np.roll(picture, 4 * k, axis=1) for k in range(50)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    assert len(list(read_video(path))) == pytest.approx(50, abs=3)


def test_a_picture_is_no_video(portrait, tmp_path):
    from moda.media.read import probe

    for name in ("a.jpg", "a.png", "a.bmp", "a.webp"):
        cv2.imwrite(str(tmp_path / name), cv2.imread(str(portrait)))
        with pytest.raises(ModaError, match=f"{name} is a picture; give a video"):
            probe(tmp_path / name)
