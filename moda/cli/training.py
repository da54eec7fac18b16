"""The commands of who trains: data prepare, train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moda.cli.progress import progress

data_app = typer.Typer(help="Datasets to train on.", rich_markup_mode=None)

People = Annotated[
    Path | None,
    typer.Option(help="A table (.tsv) with columns file and person; else every video is a person."),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]


@data_app.command("prepare")
def prepare(
    videos: Annotated[
        list[Path],
        typer.Argument(
            help="Videos of people speaking, sounds beside which lies how their lips move, or folders of them."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The dataset's folder; a run goes on in it.")
    ],
    people: People = None,
    processes: Annotated[int, typer.Option(min=1, help="How many videos at once.")] = 1,
) -> None:
    """Track, cut and bring in time videos of people; write a dataset and report.html in it.

    A sound counts with curves (NAME.csv, or NAME.npy and names.json), phone times (NAME.TextGrid) or English words
    (NAME.txt) beside it, and teaches lips alone.
    """
    from moda.evaluation.judge import person_table
    from moda.training.dataset import prepare as run
    from moda.training.report import dataset_report

    with progress("Preparing") as report:
        found = run(videos, output, processes, person_table(people) if people else None, report)
    dataset_report(output, found)
    kept = [f for f in found if f.clip]
    minutes = sum(f.end - f.start for f in kept) / 60
    print(
        f"{output}: {len(kept)} clips, {minutes:.1f} minutes; {len(found) - len(kept)} refused (see report.html)"
    )


def train(
    config: Annotated[
        Path | None, typer.Argument(help="What to train, on what, for how long: .json.")
    ] = None,
    finetune: Annotated[
        list[Path] | None,
        typer.Option(help="Instead of a config: a video of the one person to learn; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="With --finetune: the run's folder.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --finetune: the model to start from. [default: embedded]")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="With --finetune: steps. [default: 600]")] = None,
) -> None:
    """Train a generator, or teach a model one person; runs on from its last checkpoint if there is one."""
    from moda.errors import ModaError
    from moda.training.runs import train as run
    from moda.training.train import finetune as teach

    if (config is None) == (not finetune):
        raise ModaError("moda train needs a config file, or --finetune VIDEO -o FOLDER, one of the two")
    if config is not None and (output or model or steps):
        raise ModaError(
            "a config says out, model and steps itself: -o, --model and --steps go with --finetune"
        )
    with progress("Training") as report:
        if config is not None:
            folder = run(config, report)
        elif output is None or not finetune:
            raise ModaError("--finetune needs -o FOLDER, where the run and its model are written")
        else:
            folder = teach(finetune, output, model or "embedded", steps or 600, report)
    whole = (folder / "config.json").exists()  # a lip-sync expert, for one, is no model to talk with
    print(f"{folder}: use it with --model {folder}" if whole else folder)


def evaluate(
    clips: Annotated[
        Path,
        typer.Argument(metavar="CLIPS_FOLDER", help="A folder of videos of people speaking, or a dataset."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="embedded, moditalker, official, or a model's folder; may be repeated. [default: embedded]"
        ),
    ] = None,
    motions: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Motions made by anyone: CLIP.npz of every clip."),
    ] = None,
    itself: Annotated[
        bool,
        typer.Option(
            "--self",
            help="How well the mesh renderer shows each clip again, driven by its own motion from its first frame.",
        ),
    ] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also loudness, and ridge on log-mel.")
    ] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Performances of each clip. [default: 2]")] = None,
    people: People = None,
    json: Json = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write one page with table, plots and frames side by side here."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps. [default: auto]")] = None,
) -> None:
    """How well generated lips, head and lids agree with real videos."""
    from moda.errors import ModaError
    from moda.evaluation import judge
    from moda.evaluation.report import page
    from moda.media.files import check_folder, whole

    for path in (json, html):
        if path:
            check_folder(path)
    if itself:
        if model or motions or baselines or people or seeds or device:
            raise ModaError(
                "--self measures the renderer: of the other options only --json and --html go with it"
            )
        _evaluate_self(clips, json, html)
        return
    folders = {}
    for entry in motions or []:
        name, _, folder = entry.partition("=")
        if not folder or name in folders:
            raise ModaError(f"--motions is {entry!r}, but must be NAME=FOLDER, each name once")
        folders[name] = Path(folder)
    models = tuple(model or ([] if folders else ["embedded"]))
    strips: dict | None = {} if html else None
    with progress("Evaluating") as report:
        result = judge.evaluate(
            clips,
            models,
            device or "auto",
            tuple(range(seeds or 2)),
            people,
            folders,
            baselines,
            report,
            strips,
        )
    print(judge.table(result))
    if json:
        with whole(json) as part:
            judge.save(result, part)
    if html:
        with whole(html) as part:
            part.write_text(page(result, strips), encoding="utf-8")


def _evaluate_self(clips: Path, json: Path | None, html: Path | None) -> None:
    from moda.evaluation import judge, selfdriven
    from moda.evaluation.report import self_page
    from moda.media.files import whole
    from moda.render.mesh import MeshRenderer

    with progress("Evaluating") as report:
        strips: dict | None = {} if html else None
        result = selfdriven.evaluate_self(
            clips, MeshRenderer(selfdriven.SIZE), progress=report, strips=strips
        )
    print(selfdriven.table(result))
    if json:
        with whole(json) as part:
            judge.save(result, part)
    if html:
        with whole(html) as part:
            part.write_text(self_page(result, selfdriven.table(result), strips or {}), encoding="utf-8")


def register(app: typer.Typer) -> None:
    app.add_typer(data_app, name="data")
    app.command()(train)
    app.command()(evaluate)
