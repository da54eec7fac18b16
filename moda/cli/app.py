"""The commands. Everything heavy is imported inside them: `moda --help` answers at once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from moda import __version__
from moda.cli import exchange, training
from moda.cli.files import (
    check_motion_out,
    check_video_out,
    given_driving,
    given_picture,
    given_sound,
    given_video,
)
from moda.cli.progress import progress
from moda.cli.signing import Sign, SignCert, SignKey, given_signing, write
from moda.constants import DEFAULT_SIZE
from moda.errors import ModaError

log = logging.getLogger(__name__)

app = typer.Typer(
    name="moda",
    help="A portrait and a voice go in; a video of that face speaking comes out.",
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(help="Published weights: list, download, convert.", rich_markup_mode=None)
app.add_typer(weights_app, name="weights")
training.register(app)
exchange.register(app)

Portrait = Annotated[Path, typer.Argument(help="A picture with a face.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="The video to write: .mp4, .mov or .mkv.")]
Model = Annotated[str, typer.Option(help="embedded, moditalker, official, or a model's folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="float32, bfloat16, float16 or int8 (CPU, generator).")]
Size = Annotated[
    int,
    typer.Option(help="Pixels of the square of head and shoulders; with --full the least it is drawn at."),
]
Full = Annotated[
    bool, typer.Option("--full", help="The whole picture; what is larger than 4096 a side is made smaller.")
]
FullSize = Annotated[
    bool, typer.Option("--full-size", help="The whole picture at its own size, however large.")
]
Face = Annotated[int, typer.Option(help="Which face of the picture; 0 is the largest.")]
Pose = Annotated[float, typer.Option(help="Gain of the head's movement: 0 stills, 1 is as generated.")]
Lips = Annotated[float, typer.Option(help="Gain of the lips' movement.")]
Emotion = Annotated[
    str | None, typer.Option(help="One of the model's emotions; happiness:0.6 for less of it.")
]
Blink = Annotated[float, typer.Option(help="Gain of the lids' movement.")]

TimelineFile = Annotated[
    Path | None, typer.Option("--timeline", help="Events, .json: emotion, gaze, head, blinks.")
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def generate(
    portrait: Portrait,
    output: Output,
    audio: Annotated[
        list[str] | None,
        typer.Argument(
            help="Speech: any sound file, or a video with sound; several for several faces, 0=A.wav."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same video.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Sampling steps. [default: the model's]")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale. [default: the model's]")] = None,
    emotion: Emotion = None,
    model: Model = "embedded",
    size: Size = DEFAULT_SIZE,
    full: Full = False,
    full_size: FullSize = False,
    motion_out: Annotated[Path | None, typer.Option(help="Also write the motion, .npz.")] = None,
    pose: Pose = 1.0,
    lips: Lips = 1.0,
    blink: Blink = 1.0,
    timeline: TimelineFile = None,
    style: Annotated[
        Path | None, typer.Option(help="Move as much, and blink as often, as this video or motion.")
    ] = None,
    pose_from: Annotated[Path | None, typer.Option(help="Move the head as in this video or motion.")] = None,
    script: Annotated[Path | None, typer.Option(help="Who says what when, .json, in place of AUDIO.")] = None,
    listen: Annotated[
        Path | None, typer.Option(help="The portrait listens to this, in place of AUDIO.")
    ] = None,
    face: Face = 0,
    device: Device = "auto",
    precision: Precision = "float32",
    sign: Sign = False,
    sign_cert: SignCert = None,
    sign_key: SignKey = None,
) -> None:
    """A portrait speaks: PORTRAIT and AUDIO to a video."""
    from moda.cli.group import generate_group, speakers

    words = audio or []
    if script or listen or speakers(words):
        if steps is not None or guidance is not None or timeline or motion_out or style or pose_from or sign:
            raise ModaError(
                "several faces take no --steps, --guidance, --timeline, --motion-out, --style, --pose-from, --sign"
            )
        generate_group(
            portrait, words, output, script, listen, (model, device, precision), seed=seed,
            emotion=emotion, size=size, full=full, full_size=full_size, pose=pose, lips=lips, blink=blink, face=face,
        )  # fmt: skip
        return
    sound = Path(words[0])
    check_video_out(output, portrait, sound, *(path for path in (style, pose_from) if path))
    if motion_out:
        check_motion_out(motion_out, portrait, sound)
    signing = given_signing(output, sign, sign_cert, sign_key)
    portrait, sound = given_picture(portrait), given_sound(sound)
    from moda.pipeline import TalkingHead

    head = TalkingHead.from_pretrained(model, device, precision=precision)
    video = head(
        portrait, sound, seed=seed, steps=steps, guidance=guidance, emotion=emotion, size=size, full=full, full_size=full_size,
        pose=pose, lips=lips, blink=blink, face=face, timeline=timeline,
        style=given_driving(style) if style else None, pose_from=given_driving(pose_from) if pose_from else None,
    )  # fmt: skip
    with progress("Generating") as report:
        write(video.save, output, report, signing, [portrait, sound], model=model, seed=seed)
    if motion_out:
        video.motion.save(motion_out)


@app.command()
def say(
    portrait: Portrait,
    text: Annotated[str, typer.Argument(help="What to say.")],
    output: Output,
    voice: Annotated[str, typer.Option(help="A command that writes a wav.")] = "espeak-ng -w {out}",
    voice_url: Annotated[str | None, typer.Option(help="Instead a service with /v1/audio/speech.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same video.")] = 0,
    emotion: Emotion = None,
    model: Model = "embedded",
    size: Size = DEFAULT_SIZE,
    full: Full = False,
    timeline: TimelineFile = None,
    device: Device = "auto",
    sign: Sign = False,
    sign_cert: SignCert = None,
    sign_key: SignKey = None,
) -> None:
    """A portrait says a text, with a voice that is a command or a service."""
    check_video_out(output, portrait)
    signing = given_signing(output, sign, sign_cert, sign_key)
    portrait = given_picture(portrait)
    from moda.pipeline import TalkingHead
    from moda.voice import Voice

    speaker = Voice(url=voice_url) if voice_url else Voice(voice)
    head = TalkingHead.from_pretrained(model, device)
    video = head.say(
        portrait, text, speaker, seed=seed, emotion=emotion, size=size, full=full, timeline=timeline
    )
    with progress("Speaking") as report:
        write(video.save, output, report, signing, [portrait], model=model, seed=seed, text=text)


@app.command()
def animate(
    portrait: Portrait,
    driving: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO_OR_MOTION", help="A video of a face, an .npz motion, a .csv of curves."
        ),
    ],
    output: Output,
    model: Model = "embedded",
    size: Size = DEFAULT_SIZE,
    full: Full = False,
    full_size: FullSize = False,
    pose: Pose = 1.0,
    lips: Lips = 1.0,
    blink: Blink = 1.0,
    mode: Annotated[
        str, typer.Option("--driving", help="relative: about the portrait's own pose; absolute: as it is.")
    ] = "relative",
    timeline: TimelineFile = None,
    face: Face = 0,
    device: Device = "auto",
    precision: Precision = "float32",
    sign: Sign = False,
    sign_cert: SignCert = None,
    sign_key: SignKey = None,
) -> None:
    """A portrait does what a video, or a motion file, does."""
    check_video_out(output, portrait, driving)
    signing = given_signing(output, sign, sign_cert, sign_key)
    portrait, driving = given_picture(portrait), given_driving(driving)
    from moda.pipeline import TalkingHead

    head = TalkingHead.from_pretrained(model, device, precision=precision)
    with progress("Tracking") as report:
        video = head.animate(
            portrait,
            driving,
            size=size,
            full=full,
            full_size=full_size,
            pose=pose,
            lips=lips,
            mode=mode,
            blink=blink,
            timeline=timeline,
            face=face,
            progress=report,
        )
    with progress("Drawing") as report:
        write(video.save, output, report, signing, [portrait, driving], model=model)


@app.command()
def dub(
    video: Annotated[Path, typer.Argument(help="A video of a face.")],
    audio: Annotated[Path, typer.Argument(help="What it is to say: any sound file, or a video with sound.")],
    output: Output,
    model: Model = "embedded",
    face: Annotated[
        int, typer.Option(help="Which face of the first frame that shows one; 0 is the largest.")
    ] = 0,
    lips: Lips = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same video.")] = 0,
    device: Device = "auto",
    precision: Precision = "float32",
    timeline: TimelineFile = None,
    sign: Sign = False,
    sign_cert: SignCert = None,
    sign_key: SignKey = None,
) -> None:
    """A video speaks another sound: its lips follow AUDIO, all else stays as it is."""
    check_video_out(output, video, audio)
    signing = given_signing(output, sign, sign_cert, sign_key)
    video, audio = given_video(video), given_sound(audio)
    from moda.pipeline import TalkingHead

    head = TalkingHead.from_pretrained(model, device, precision=precision)
    with progress("Following the face") as report:
        dubbed = head.dub(video, audio, face=face, lips=lips, seed=seed, timeline=timeline, progress=report)
    with dubbed, progress("Dubbing") as report:
        write(dubbed.save, output, report, signing, [video, audio], model=model, seed=seed)


@app.command()
def track(
    video: Annotated[Path, typer.Argument(help="A video of a face.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The motion to write: .npz.")],
    model: Annotated[
        str, typer.Option(help="Whose space: embedded, moditalker, official, or a model's folder.")
    ] = "embedded",
    device: Device = "auto",
) -> None:
    """The motion of the face in a video, 25 frames a second."""
    check_motion_out(output, video)
    video = given_video(video)
    from moda.pipeline import TalkingHead

    with progress("Tracking") as report:
        found = TalkingHead.from_pretrained(model, device).track(video, report)
    found.motion.save(output)
    for line in found.remarks():
        log.warning(line)


@app.command()
def bench(
    model: Model = "embedded",
    json: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of the speech. [default: 20]")] = None,
    long: Annotated[bool, typer.Option("--long", help="Also five minutes of speech.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Live sessions instead: delay, how many hold.")
    ] = False,
    serve: Annotated[bool, typer.Option("--serve", help="A server from outside instead: delay.")] = False,
    hours: Annotated[float, typer.Option(help="With --live and --serve: also so long a session.")] = 0.0,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Time and memory of every stage, or of live sessions, beside what the machine can do."""
    from moda.bench.live import bench_live
    from moda.bench.stages import bench as run
    from moda.bench.stages import save
    from moda.media.files import check_folder

    if json:
        check_folder(json)
    if live:
        result = bench_live(model, device, hours)
    elif serve:
        from moda.bench.serve import bench_serve

        result = bench_serve(model, device, hours=hours)
    else:
        result = run(model, device, seconds, long, precision)
    if json:
        save(result, json)


@app.command()
def serve(
    portrait: Annotated[
        list[Path] | None, typer.Option(help="A picture that the page offers; may be repeated.")
    ] = None,
    host: Annotated[str, typer.Option(help="Beyond this machine a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8000,
    model: Model = "embedded",
    size: Annotated[int, typer.Option(help="128, 256, 384 or 512 pixels.")] = 512,
    token: Annotated[str | None, typer.Option(help="A secret that requests must bring.")] = None,
    voice: Annotated[
        str | None, typer.Option(help='A command that speaks, such as "espeak-ng -w {out}".')
    ] = None,
    voice_url: Annotated[str | None, typer.Option(help="Or a service with /v1/audio/speech.")] = None,
    device: Device = "auto",
) -> None:
    """A face in the browser that listens and speaks; agents by WebSocket; videos as jobs."""
    pictures = [given_picture(path) for path in portrait or []]
    from moda.serve.run import run as start

    start(pictures, model, device, host, port, size, token, voice, voice_url)


@app.command()
def emotions(model: Model = "embedded") -> None:
    """The emotions that a model knows."""
    from moda.weights import Description, resolve

    for name in Description.read(resolve(model)).generator.config.emotions:
        print(name)


@app.command()
def doctor() -> None:
    """What is installed, what device there is, what is missing and how to get it."""
    from moda.doctor import examine, show

    raise typer.Exit(show(examine()))


@weights_app.command("list")
def weights_list() -> None:
    """The models that are known, and where those that are here lie."""
    from moda.weights import list_weights

    for line in list_weights():
        print(line)


@weights_app.command()
def download(name: Annotated[str, typer.Argument(help="official")] = "official") -> None:
    """Fetch published weights from the hub; goes on where it was broken off."""
    from moda import weights

    print(weights.download(name))


@weights_app.command()
def convert(folder: Annotated[Path, typer.Argument(help="Where the downloaded .pth files lie.")]) -> None:
    """Turn published .pth files, MoDA's or MoDiTalker's, into safetensors and a config, once."""
    from moda import weights
    from moda.weights import moditalker

    print(moditalker.convert(folder) if moditalker.is_here(folder) else weights.convert(folder))
