"""`moda generate` for several faces, and for one that listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moda.cli.files import check_video_out, given_picture, given_sound
from moda.cli.progress import progress
from moda.errors import ModaError


def speakers(words: list[str]) -> bool:
    """Whether what was given as AUDIO is for several faces. Errors: ModaError for none."""
    if not words:
        raise ModaError("nobody speaks: give AUDIO, --script or --listen")
    first, equals, _ = words[0].partition("=")
    return len(words) > 1 or (bool(equals) and first.isdecimal() and not Path(words[0]).exists())


def generate_group(
    portrait: Path,
    words: list[str],
    output: Path,
    script: Path | None,
    listen: Path | None,
    model: tuple[str, str, str],
    **options: Any,
) -> None:
    """model: its name, device, precision; options: those of `TalkingHead.together`."""
    if sum(map(bool, (words, script, listen))) != 1:
        raise ModaError("give one of AUDIO, --script and --listen")
    from moda.engine.group import read_parts, read_script

    parts = read_script(script) if script else read_parts(words)
    sounds = [Path(part.audio) for part in parts] + ([listen] if listen else [])
    check_video_out(output, portrait, *sounds)
    portrait = given_picture(portrait)
    for sound in sounds:
        given_sound(sound)
    if not listen:
        if options.pop("face"):
            raise ModaError("--face is for one face; several are counted from the left: 0=A.wav 1=B.wav")
        options["full"] = True
    from moda.pipeline import TalkingHead

    head = TalkingHead.from_pretrained(model[0], model[1], precision=model[2])
    group = head.together(portrait, parts, listening_to=listen, **options)
    with progress("Generating") as report:
        group.save(output, report)
