"""What the documents name is there: links, paths, modules, make targets and parameters; and README stays short."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "backbones").glob("*.md"))]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
RESULTS = [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "benchmarks/results").glob("*.json"))]
CLAIMS = {claim["name"] for result in RESULTS for claim in result["claims"]}
DVC = (ROOT / "dvc.yaml").read_text("utf-8")
OWNED = ("tasks/", "flows/", "tests/", "benchmarks/", "docs/", "backbones/", ".ci/", ".github/")  # what git keeps
FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
CODE_SPAN = re.compile(r"`([^`]+)`")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page):
    return page.read_text("utf-8")


def prose_of(page):
    """Return the page without its blocks of code."""
    return FENCE.sub("", text_of(page))


def spans_of(page):
    """Return the pieces of inline code, which may run over the end of a line."""
    return [" ".join(span.split()) for span in CODE_SPAN.findall(prose_of(page))]


def anchors_of(page):
    """Return the anchors that GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@each_page
def test_every_path_in_the_prose_exists(page):
    for span in spans_of(page):
        if span.startswith(OWNED) and not re.search(r"[<*…\s]", span):
            assert (ROOT / span).exists(), span


@each_page
def test_every_path_of_data_is_known_to_dvc_or_git(page):
    for path in re.findall(r"(?<![\w./])data/[\w./-]+", text_of(page)):
        first_two = "/".join(path.rstrip("/").split("/")[:2])
        assert first_two in DVC or (ROOT / first_two).exists(), path


@each_page
def test_every_module_that_is_run_exists(page):
    # CHANGELOG.md also names the commands of earlier releases
    for module in re.findall(r"python -m ((?:tasks|flows|benchmarks)[a-z_.]*)", text_of(page)):
        assert page.name == "CHANGELOG.md" or find_spec(module.rstrip(".")), module


@each_page
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    named = [words[1] for span in spans_of(page) if (words := span.split())[0] == "make" and len(words) > 1]
    typed = re.findall(r"^(?:.*&& )?make ([a-z]+)", "\n".join(FENCE.findall(text_of(page))), flags=re.MULTILINE)
    assert {*named, *typed} <= targets


@each_page
def test_every_parameter_that_is_named_is_in_params(page):
    for span in {*spans_of(page)} - CLAIMS:
        section, _, key = span.partition(":")[0].partition(".")
        if section in PARAMS and isinstance(PARAMS[section], dict) and re.fullmatch(r"[a-z_0-9]+", key):
            assert key in PARAMS[section], span


@each_page
def test_no_text_tells_anybody_to_install_graftline_from_an_index(page):
    """An index may serve a stranger's package of that name."""
    assert not re.search(r"pip install\s+['\"]?graftline", text_of(page))


@each_page
def test_lines_end_at_120_columns_but_for_tables(page):
    too_long = [line for line in text_of(page).splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not too_long


@pytest.mark.parametrize("name", ["alarms", "sharing"])
def test_messages_that_a_table_quotes_are_those_of_the_code(name):
    modules = [path.read_text("utf-8") for top in ("tasks", "flows") for path in sorted((ROOT / top).rglob("*.py"))]
    code = re.sub(r'"\n\s*f?"', "", "".join(modules))  # a message may be written in pieces
    quoted = re.findall(r"^\| `([^`]*…[^`]*)`", text_of(ROOT / f"docs/{name}.md"), flags=re.MULTILINE)
    assert quoted
    for message in quoted:
        for piece in message.split("…"):
            assert piece.strip() in code, message


def test_readme_is_short_and_leads_to_every_page():
    assert len(text_of(README).split()) <= 1300
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", text_of(README)))
    assert linked == {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")}


def test_questions_of_readme_are_the_titles_of_their_pages():
    for question, name in re.findall(r"^\| (.+?) \| \[(docs/\w+\.md)\]", text_of(README), flags=re.MULTILINE):
        assert text_of(ROOT / name).splitlines()[0] == f"# {question}"


def test_tree_of_readme_has_a_line_for_every_room_and_no_other():
    [tree] = [block for block in FENCE.findall(text_of(README)) if "├──" in block]
    path, named = [], set()
    for indent, name in re.findall(r"^((?:│   )*(?:[├└]── )?)([\w.]+/)", tree, flags=re.MULTILINE):
        path = [*path[: len(indent) // 4], name.rstrip("/")]
        named.add("/".join(path))
    rooms = {
        str(package.parent.relative_to(ROOT))
        for top in ("tasks", "flows")
        for package in (ROOT / top).rglob("__init__.py")
    }
    assert {name for name in named if name.split("/")[0] in ("tasks", "flows")} == rooms
    assert all((ROOT / name).is_dir() for name in named)


def test_verbs_and_doors_in_the_tree_of_readme_are_all_there():
    [tree] = [block for block in FENCE.findall(text_of(README)) if "├──" in block]
    [doors] = re.findall(r"^flows/ +WHEN: (.+(?:\n +[a-z_, ]+)*)$", tree, flags=re.MULTILINE)
    [verbs] = re.findall(r"^tasks/ +HOW: a module per stage, and (.+(?:\n +[a-z_, ]+)*)$", tree, flags=re.MULTILINE)
    stages = set(yaml.safe_load(DVC)["stages"])
    assert set(re.split(r",\s+", doors)) == modules("flows")
    assert {*re.split(r",\s+", verbs), *stages} == modules("tasks")


def modules(package):
    return {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
