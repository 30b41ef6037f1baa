"""The pages tell the truth: their code runs, their commands parse, their links lead somewhere."""

import ast
import dataclasses
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mitate import Classifier, Explanation, imports
from mitate.cli.app import COMMANDS, app, run
from mitate.explain.layers import automatic
from mitate.explain.methods import METHODS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "README.ja.md", *sorted(DOCS.glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
QUICK = ("methods", "layers", "explain", "report", "doctor")
OTHER_COMMANDS = ("make ", "pip install ", "python3.11 -m venv ", ".venv/bin/pip install ")
OTHER_OPTIONS = {"--help", "--traceback", "--version", "--option"}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return [block for found, block in BLOCK.findall(text_of(page)) if found == language]


def prose(page: Path) -> str:
    return BLOCK.sub("", text_of(page))


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def shell_lines(page: Path) -> list[str]:
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line.strip()]


def mitate_lines(page: Path) -> list[str]:
    return [line for line in shell_lines(page) if line.startswith("mitate ")]


def words_of(line: str) -> list[str]:
    return shlex.split(line)[1:]


def rows_below(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table whose head begins so."""
    lines = text_of(page).split(f"| {heading}", 1)[1].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=name_of)
LINES = list(dict.fromkeys(line for page in PAGES for line in mitate_lines(page)))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_python_blocks_run(
    page: Path,
    workshop: Path,
    prepared: dict[str, Callable[[], Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for entry in workshop.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    code = blocks(page, "python")
    used = {node.id for block in code for node in walk_names(block)}
    namespace: dict[str, Any] = {name: prepared[name]() for name in prepared if name in used}
    for block in code:
        exec(compile(block, name_of(page), "exec"), namespace)


def walk_names(block: str) -> Iterator[ast.Name]:
    return (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Name))


@pytest.mark.parametrize("line", LINES)
def test_commands_parse(line: str):
    _, bound, _ = app.parse_args(words_of(line), exit_on_error=False, print_error=False)

    assert bound is not None


def of_the_hub(line: str) -> bool:
    """Whether a line explains with weights that only the hub has."""
    command, reference, *_ = [*words_of(line), ""]
    return command == "explain" and reference.startswith("timm:") and "@" not in reference


@pytest.mark.parametrize(
    "line", [line for line in LINES if words_of(line)[0] in QUICK and not of_the_hub(line)]
)
def test_quick_commands_run(
    line: str,
    workshop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(workshop)

    code = run(words_of(line))

    assert code == 0, capsys.readouterr().err


def test_convert_looks_before_it_reads(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(workshop)
    line = next(line for line in LINES if words_of(line)[0] == "convert")

    assert run(words_of(line)) == 1
    assert "--trust-pickle" in capsys.readouterr().err
    assert not (workshop / words_of(line)[2]).exists()


@EVERY_PAGE
def test_shell_lines_are_known(page: Path):
    strange = [
        line for line in shell_lines(page) if not line.startswith(("mitate ", *OTHER_COMMANDS))
    ]

    assert strange == []


@EVERY_PAGE
def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    code = [*shell_lines(page), *inline_code(page)]
    named = {match for words in code for match in re.findall(r"^make ([a-z-]+)", words)}

    assert named <= targets


@EVERY_PAGE
def test_extras_exist(page: Path):
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    named = {
        extra
        for line in shell_lines(page)
        for group in re.findall(r"\.\[([a-z,]+)\]", line)
        for extra in group.split(",")
    }

    assert named <= set(extras)


def test_install_names_every_extra():
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]

    assert [row[0].strip("`") for row in rows_below(DOCS / "install.md", "extra ")][1:] == sorted(
        extras, key=["train", "audit", "hf", "peers", "dev"].index
    )


def test_install_names_the_pinned_torch():
    pinned = re.search(r"^torch==\S+", text_of(ROOT / "constraints.txt"), re.MULTILINE)

    assert pinned is not None
    assert f"pip install {pinned[0]} " in text_of(DOCS / "install.md")


@EVERY_PAGE
def test_links_lead_somewhere(page: Path):
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_named_commands_and_options_exist(page: Path):
    options = {name for command in COMMANDS for name in names_of(command)} | OTHER_OPTIONS
    for code in inline_code(page):
        for command in re.findall(r"^mitate (\w+)", code):
            assert command in COMMANDS, code
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
            assert option in options, code


def names_of(command: str) -> Iterator[str]:
    for argument in app[command].assemble_argument_collection():
        yield from argument.names


def test_command_reference_is_fresh(generate: ModuleType):
    assert text_of(DOCS / "commands.md") == generate.commands(), f"run {generate.REGENERATE}"


def test_metric_table_is_fresh(generate: ModuleType):
    page = text_of(DOCS / "metrics.md")
    assert page == generate.with_metrics(page), f"run {generate.REGENERATE}"


def test_method_table_is_fresh(generate: ModuleType):
    page = text_of(DOCS / "methods.md")

    assert page == generate.with_methods(page), f"run {generate.REGENERATE}"


@pytest.mark.parametrize("command", COMMANDS)
def test_reference_names_every_option(command: str):
    section = text_of(DOCS / "commands.md").split(f"## mitate {command}\n")[1].split("\n## ")[0]

    assert [name for name in names_of(command) if f"`{name}`" not in section] == []


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_cited(name: str):
    row = next(row for row in rows_below(DOCS / "methods.md", "method ") if row[0] == f"`{name}`")
    source = re.search(r"(?:doi|arXiv):([^\s),]+)", METHODS[name].cite)

    assert source is not None
    assert source[1] in row[-1]
    assert METHODS[name].cite.split(",")[0].split(" (")[0] in row[-1]


def test_index_names_every_page():
    named = set(LINK.findall(prose(DOCS / "README.md")))

    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= named


def test_readme_begins_with_the_two_commands():
    assert shell_lines(ROOT / "README.md")[:2] == ["make demo", "make test"]


def test_readme_lists_every_command():
    rows = rows_below(ROOT / "README.md", "command ")

    assert [row[0] for row in rows] == [f"`mitate {command}`" for command in COMMANDS]


def test_readme_lists_what_an_explanation_has():
    rows = rows_below(ROOT / "README.md", "an `Explanation`")
    named = {name for row in rows for name in re.findall(r"`(\w+)(?:\(\))?`", row[0])}
    fields = {field.name for field in dataclasses.fields(Explanation)}

    assert [name for name in named - fields if not hasattr(Explanation, name)] == []
    assert fields <= named


def test_readmes_name_the_same_things():
    english, japanese = ROOT / "README.md", ROOT / "README.ja.md"

    assert shell_lines(japanese) == shell_lines(english)
    assert set(inline_code(japanese)) == set(inline_code(english))
    assert set(LINK.findall(prose(japanese))) - {"README.md"} == set(
        LINK.findall(prose(english))
    ) - {"README.ja.md"}
    assert [ast.dump(ast.parse(block)) for block in blocks(japanese, "python")] == [
        ast.dump(ast.parse(block)) for block in blocks(english, "python")
    ]


def test_exit_codes_agree():
    codes = [
        [row[0] for row in rows_below(page, heading)]
        for page, heading in (
            (ROOT / "README.md", "exit code"),
            (ROOT / "README.ja.md", "終了コード"),
            (DOCS / "commands.md", "exit code"),
        )
    ]

    assert codes[0] == codes[1] == codes[2]


@pytest.mark.parametrize(
    ("name", "layer", "grid"),
    [[cell.strip("`") for cell in row] for row in rows_below(DOCS / "layers.md", "network ")],
)
def test_auto_takes_what_is_said(name: str, layer: str, grid: str):
    network = imports.timm().create_model(name).eval()
    classifier = Classifier.from_module(network)
    height, width = classifier.preprocessing.size

    found = automatic(network, torch.randn(1, 3, height, width), read=classifier.read)

    assert found.name == layer
    assert f"{found.grid.height} x {found.grid.width}" == grid


def test_picture_is_light():
    assert (DOCS / "demo-sheet.png").stat().st_size < 400_000
