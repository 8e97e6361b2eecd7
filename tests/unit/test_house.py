"""The house around the code: light imports, the verbs, pins, the wheel, documents, and what no file may say."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import engine
from engine.cli import VERBS
from engine.config import load
from engine.errors import EXITS

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = {
    "catboost", "cryptography", "lightgbm", "numba", "numpy", "polars", "redis", "rich", "scipy", "sklearn", "torch",
    "xgboost",
}


def fresh(code: str) -> str:
    """The stdout of a new interpreter in which only this folder's code is ours."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def files() -> Iterator[Path]:
    """What git tracks or would: every file here that .gitignore doesn't name."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()] + [".git"]
    for folder, folders, names in os.walk(ROOT):
        for listed in (folders, names):
            listed[:] = [name for name in listed if not any(fnmatch(name, pattern) for pattern in ignored)]
        yield from (Path(folder, name) for name in names)


FILES = sorted(files())
PACKAGED = [file for file in FILES if file.relative_to(ROOT).parts[0] in ("engine", "trainers")]
MODULES = [file for file in PACKAGED if file.suffix == ".py"]


# ---- imports


def test_importing_engine_is_light() -> None:
    loaded = json.loads(fresh("import sys, json, engine; print(json.dumps(sorted(sys.modules)))"))
    assert HEAVY.isdisjoint(loaded)


def test_importing_engine_is_cheap() -> None:
    code = "import time; t = time.process_time(); import engine; print(time.process_time() - t)"
    assert min(float(fresh(code)) for _ in range(3)) < 0.050


def test_every_promised_name_is_there() -> None:
    for name in engine.__all__:
        assert getattr(engine, name) is not None
    with pytest.raises(AttributeError, match="Enigne"):
        engine.Enigne  # noqa: B018


def test_both_packages_are_typed() -> None:
    assert (ROOT / "engine" / "py.typed").exists()
    assert (ROOT / "trainers" / "py.typed").exists()


# ---- the table of verbs


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_what_the_table_needs(verb: str) -> None:
    name, text = VERBS[verb]
    module = import_module(name)
    assert module.EXAMPLE.startswith(f"tocsin {verb}")
    assert "\n" not in module.EXAMPLE
    assert callable(module.add_arguments)
    assert callable(module.run)
    assert text == text.strip()
    assert len(text) <= 90


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_light(verb: str) -> None:
    """150 ms for --help is kept by what isn't imported for it."""
    out = fresh(
        f"import sys\nfrom engine.cli import main\n"
        f"try: code = main([*{verb.split()!r}, '--help'])\n"
        f"except SystemExit as stop: code = stop.code\n"
        f"print(code, sorted({HEAVY!r} & set(sys.modules)))"
    )
    assert out.splitlines()[-1] == "0 []"
    assert "example:" in out


# ---- what may not stand in a file

NAMED = ("json-schema.org", "www.w3.org", "www.apache.org", "arxiv.org", "keepachangelog.com", "semver.org")
URL = re.compile(r"https?://(?!localhost|127\.|example\.)([^/\s:\"'<>()\]`{]+)")
HOME = re.compile(r"/(?:home|Users)/\w|(?<![\w.])/root/")


def test_no_foreign_address_and_no_path_of_this_machine() -> None:
    for file in FILES:
        if file == Path(__file__):
            continue
        text = file.read_text(errors="replace")
        assert set(URL.findall(text)) <= set(NAMED), f"{file} names an address that isn't in NAMED; no registry may be"
        assert not HOME.search(text), f"{file} names somebody's home folder"
        assert str(ROOT) not in text, f"{file} names the folder it lies in"


DECIDING = ("eventtime.py", "features", "partition", "registry/rollout.py", "runtimes")
"""Under engine/: a byte of a decision comes from here. import-linter sees the clocks; these names it can't see."""
CHANCE = {"random", "default_rng", "urandom", "environ", "getenv", "perf_counter", "monotonic", "time_ns"}


def names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.name for alias in aliases)


def test_what_decides_knows_no_clock_no_chance_no_environment() -> None:
    folders = [ROOT / "engine" / place for place in DECIDING]
    deciding = [file for file in MODULES if any(file == place or place in file.parents for place in folders)]
    assert len(deciding) > 10
    found = {str(file.relative_to(ROOT)): CHANCE & set(names(file)) for file in deciding}
    assert not {file: bad for file, bad in found.items() if bad}


def test_only_jit_compiles() -> None:
    """One way to compile a kernel: without it a cache could be stale, or fastmath change a bit."""
    for file in MODULES:
        if file.name != "jit.py":
            assert {"njit", "jit", "vectorize", "guvectorize", "fastmath"}.isdisjoint(names(file)), file


# ---- pins


def test_decoders_are_built_when_a_module_is() -> None:
    """msgspec builds what it knows of a type when it first needs it: a second thread that needs it meanwhile reads half of it,
    and the process dies (SIGSEGV). At an import one thread does."""
    for file in (*ROOT.glob("engine/**/*.py"), *ROOT.glob("trainers/**/*.py")):
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            decodes = isinstance(call.func, ast.Attribute) and call.func.attr == "decode"
            late = decodes and any(word.arg == "type" for word in call.keywords)
            assert not late, f"{file}:{call.lineno}: decode(…, type=…): a Decoder of the module, please"


def pins(name: str) -> dict[str, tuple[str, list[str]]]:
    """Package -> (version, hashes) of deploy/requirements/NAME.txt."""
    text = (ROOT / "deploy" / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    pinned = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            match = re.match(r"([a-z0-9-]+)==(\S+)", line)
            assert match, f"not a pin: {line[:60]}"
            pinned[match[1]] = (match[2], re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line))
    return pinned


def group(name: str) -> list[str]:
    items = PYPROJECT["dependency-groups"][name]
    return [i for item in items for i in (group(item["include-group"]) if isinstance(item, dict) else [item])]


@pytest.mark.parametrize("name", ["demo", "test", "dev"])
def test_pins_are_hashed_and_answer_pyproject(name: str) -> None:
    pinned = pins(name)
    assert all(hashes for _, hashes in pinned.values())
    project = PYPROJECT["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["embedded"], *group(name)):
        wanted = Requirement(text)
        assert pinned[canonicalize_name(wanted.name)][0] in wanted.specifier, "run `make pins`"


def test_demo_test_and_dev_pin_the_same_versions() -> None:
    demo, test, dev = pins("demo"), pins("test"), pins("dev")
    assert demo.items() <= test.items() <= dev.items()


# ---- the wheel


def test_the_wheel_holds_both_packages_whole(tmp_path: Path, missing: Callable[[str], NoReturn]) -> None:
    if find_spec("hatchling") is None:
        missing("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, check=True, timeout=60,
    )
    (wheel,) = tmp_path.glob("tocsin-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        entry = next(name for name in held if name.endswith("entry_points.txt"))
        assert "tocsin = engine.cli:main" in archive.read(entry).decode()
    code = {name for name in held if ".dist-info/" not in name}
    assert code == {str(file.relative_to(ROOT)) for file in PACKAGED}
    assert any(name.endswith("licenses/LICENSE") for name in held)


# ---- documents

DOCUMENTS = [file for file in FILES if file.suffix == ".md"]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_documents_name_what_exists(file: Path) -> None:
    text = file.read_text()
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\btocsin ([a-z]+)\b", code)) <= {verb.split()[0] for verb in VERBS}
    assert set(re.findall(r"\bmake ([a-z]+)\b", code)) <= targets
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert "://" in link or (file.parent / link).exists(), link


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_examples_in_documents_hold(file: Path, tmp_path: Path) -> None:
    for language, block in re.findall(r"```(\w+)\n(.*?)```", file.read_text(), re.DOTALL):
        match language:
            case "python":
                imports = [n for n in ast.walk(ast.parse(block)) if isinstance(n, ast.ImportFrom) and n.module]
                for node in imports:
                    assert all(hasattr(import_module(str(node.module)), alias.name) for alias in node.names)
            case "toml":
                (tmp_path / "tocsin.toml").write_text(block)
                load(str(tmp_path / "tocsin.toml"), {})
            case "json":
                jsonschema.validate(json.loads(block), json.loads((ROOT / "docs/schemas/signal.json").read_text()))
            case _:
                pytest.fail(f"no check for {language}")


def test_the_readme_has_the_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXITS


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{engine.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
