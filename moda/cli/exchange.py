"""The commands for much work and for other programs: batch, export, stream-curves, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moda.cli.files import given_driving, given_performance, given_picture
from moda.cli.progress import progress
from moda.errors import ModaError

if TYPE_CHECKING:
    from moda.motion import Motion

Driving = Annotated[
    Path,
    typer.Argument(metavar="MOTION_OR_VIDEO", help="A motion file, a video of a face, a .csv of curves."),
]


def register(app: typer.Typer) -> None:
    for command in (batch, export, stream_curves, export_model, verify):
        app.command()(command)


def batch(
    manifest: Annotated[
        Path, typer.Argument(help="A table, .csv, .jsonl or .parquet: portrait, audio, options as columns.")
    ],
    folder: Annotated[Path, typer.Option("-o", "--output", help="The folder that the videos go into.")],
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    ray: Annotated[str | None, typer.Option(help="A Ray cluster's address, such as auto.")] = None,
    model: Annotated[str, typer.Option(help="embedded, official, or a model's folder.")] = "embedded",
    voice: Annotated[str | None, typer.Option(help="For lines with a text: a command.")] = None,
    voice_url: Annotated[str | None, typer.Option(help="Or a service with /v1/audio/speech.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16, float16 or int8.")] = "float32",
) -> None:
    """Many videos: each line of a table is one. Those that are there already are left; failed ones are listed."""
    from moda.batch.run import FAILED, run
    from moda.batch.work import Setup
    from moda.weights import resolve

    resolve(model)
    setup = Setup(model, device, precision, voice, voice_url)
    with progress("Making videos") as report:
        found = run(manifest, folder, setup, workers, ray, report)
    print(
        f"{found['made']} made, {found['there_already']} were there, {found['failed']} failed, "
        f"{found['seconds']:.1f} s"
    )
    if found["failed"]:
        raise ModaError(f"{found['failed']} of {found['lines']} lines failed; {folder / FAILED} says why")


def export(
    driving: Annotated[
        Path,
        typer.Argument(
            metavar="MOTION_OR_FILE", help="A motion file, a video of a face, a .csv of curves; or speech."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help=".csv, .tsv or .json (mouth cues), .glb, .vrma.")
    ],
    kind: Annotated[str, typer.Option("--format", help="Of a .csv: livelink or a2f.")] = "livelink",
    portrait: Annotated[Path | None, typer.Option(help="The picture that a .glb is made of.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of what is made for speech; 0 unless given.")] = None,
) -> None:
    """Motion for other programs, of a face's movement or of speech: curves, cues, meshes."""
    from moda.interchange.export import check_export
    from moda.interchange.export import export as write

    check_export(output, kind, portrait, driving)
    driving, speech = given_performance(driving)
    if seed is not None and not speech:
        raise ModaError("--seed is for speech alone")
    source, values = None, None
    if speech:
        from moda.interchange.spoken import speak

        with progress("Listening") as report:
            motion, values = speak(driving, seed or 0, report)
    else:
        motion = _explicit_motion(driving)
    if portrait:
        from moda.face import read_portrait

        source = read_portrait(given_picture(portrait))
    write(motion, output, kind, source, values)


def stream_curves(
    driving: Driving,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 39539,
) -> None:
    """A motion in its own time as VMC messages over UDP, to avatars that listen."""
    from moda.interchange.vmc import Sender, play

    sender = Sender(host, port)
    motion = _explicit_motion(given_driving(driving))
    with progress("Sending") as report:
        play(motion, sender, report)


def export_model(
    name: Annotated[str, typer.Argument(help="embedded, official, or a model's folder.")],
    folder: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")],
    check: Annotated[bool, typer.Option("--check", help="Compare each with torch.")] = False,
) -> None:
    """A model's networks as ONNX, for runtimes without torch."""
    from moda.interchange.networks import export as write
    from moda.weights import resolve
    from moda.weights.description import Description

    found = resolve(name)
    for network, error in write(found, Description.read(found), folder, check):
        print(f"{network}: {error:.1e} of its numbers' size away from torch")


def verify(file: Annotated[Path, typer.Argument(help="Any picture, sound or video.")]) -> None:
    """What is known of a file: its metadata, its content credentials. Broken ones are an error."""
    from moda.interchange.credentials import BROKEN, known

    lines = known(file)
    print("\n".join(lines) or "nothing is known of this file")
    if any(line.startswith(BROKEN) for line in lines):
        raise ModaError(f"the credentials of {file} are not to be trusted")


def _explicit_motion(driving: Path) -> Motion:
    """What drives, in the space that curves are derived from."""
    from moda.engine.driving import Driving
    from moda.render.mesh import MeshRenderer

    with progress("Reading") as report:
        return Driving.read(driving, MeshRenderer(), report).motion
