"""The house's rules: small files, names in their own rooms, the base install alone, the field's words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from moda.motion.space import ROOMS
from moda.weights.description import MODEL_RENDERERS

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "moda").rglob("*.py"))
MOST_LINES = 400
MOST_IN_PIPELINE = 200

# name -> who may write it as a string: its own rooms, the registries, and who knows the published files
REGISTRIES = {"motion/space.py", "weights/description.py"}
PUBLISHED = {"weights/published.py", "generator/config.py"}
KNOWN = {
    "explicit": {"motion/explicit.py", *REGISTRIES},
    "liveportrait": {"motion/liveportrait.py", "render/liveportrait/", *REGISTRIES, *PUBLISHED},
    "landmarks68": {"motion/landmarks68.py", "generator/atom/published.py", *REGISTRIES},
    "mesh": {"render/mesh/", *REGISTRIES},
}

# what these words are said for -> the field's word
WORDS = {
    r"\bby chance\b": "random",
    r"\bnormalis": "normaliz",
    r"\boptimis": "optimiz",
    r"\bquantis": "quantiz",
    r"\b(hardly|badly|well) told\b": "predicted",
    r"\bencoder (hears|has heard|heard)\b": "encodes, encoded",
}
NAMES = re.compile(r"colour|centre|neighbour|behaviour|normalis|optimis|grey(?!hound)")

# installed by extras: what must not be needed to import anything but that extra's own room
EXTRAS = (
    *("transformers", "starlette", "uvicorn", "websockets", "aiortc", "multipart", "matplotlib"),
    *("pocketsphinx", "scipy", "soundfile"),
)


def inside(path: Path) -> str:
    return path.relative_to(ROOT / "moda").as_posix()


def test_files_are_small():
    lengths = {inside(path): len(path.read_text().splitlines()) for path in MODULES}
    assert lengths["pipeline.py"] < MOST_IN_PIPELINE
    assert not {name: length for name, length in lengths.items() if length > MOST_LINES}


def test_spaces_and_renderers_are_named_in_their_rooms_alone():
    assert set(ROOMS) | set(MODEL_RENDERERS) == set(KNOWN)
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in KNOWN:
                if not any(inside(path).startswith(place) for place in KNOWN[node.value]):
                    found.append(f"{inside(path)}:{node.lineno} {node.value}")
    assert not found


@pytest.mark.parametrize("extra", [False, True])
def test_every_module_imports_with_the_base_install_alone(extra):
    """`moda.serve` needs its extra, and is then imported with it."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    blocked = () if extra else EXTRAS
    if not extra:
        names = [name for name in names if not name.startswith("moda.serve")]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_there_is_can_be_seen():
    import moda

    assert {"TalkingHead", "Motion", "ModaError", "__version__"} <= set(dir(moda))
    assert (ROOT / "moda" / "py.typed").exists()


def test_the_fields_words_are_used():
    texts = [*MODULES, *(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "benchmarks").glob("*.py")]
    found = []
    for path in texts:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found += [
                f"{path.relative_to(ROOT)}:{number} {word}: say {better}"
                for word, better in WORDS.items()
                if re.search(word, line, re.IGNORECASE)
            ]
    assert not found


def test_names_are_spelled_the_american_way():
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None)
            name = name or getattr(node, "arg", None)
            if isinstance(name, str) and NAMES.search(name):
                found.append(f"{inside(path)}:{node.lineno} {name}")
    assert not found


def test_nobody_is_led_to_another_package():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *MODULES]:
        assert not re.search(r"pip install [\"']?moda(?!-talkinghead)\b", path.read_text()), path
