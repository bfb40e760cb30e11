"""The repository installs: named dependencies, a package, a `.venv` that belongs to its folder, LF in every clone."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# what stages and flows run: the regression stage runs tests/regression
RUN_BY_USERS = ("flows", "tasks", "tests/regression")
# imports of what only an extra has; the file imports them inside a function
FROM_AN_EXTRA = {
    "tasks/embedding/quantised.py": {"onnx"},
    "tasks/embedding/runtimes.py": {"onnxruntime", "openvino"},
    "tasks/machine/cluster.py": {"ray"},
    "tasks/machine/replicas.py": {"ray"},
    "tasks/machine/training_group.py": {"ray"},
    "tasks/prediction/export.py": {"onnxruntime"},  # names the missing packages and the command
    "tasks/prediction/quantise.py": {"onnx", "onnxruntime"},
    "tasks/quantise.py": {"onnx"},
    "tasks/models/encoder.py": {"transformers"},
    "tasks/models/timm_networks.py": {"timm"},
    "tasks/models/transformers_networks.py": {"transformers"},
    "tasks/models/weight_folder.py": {"huggingface_hub"},
    "tasks/text/tokenizer.py": {"tokenizers"},
    "tasks/demo/glyphs.py": {"matplotlib"},  # makes the shipped backbone again; no stage does
}


def names(requirements):
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def tracked(*paths):
    listed = subprocess.run(["git", "ls-files", "-z", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def third_party_imports(nodes):
    """Return the first word of every import that is neither Python's own nor this repository's."""
    modules = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - {"flows", "tasks", "tests"}


def eager(tree):
    """Yield the nodes that run on import: those outside of every function."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from eager(node)


def test_every_package_that_a_stage_or_a_flow_imports_is_a_dependency():
    distributions = importlib.metadata.packages_distributions()
    dependencies = names(PROJECT["dependencies"])
    optional = names(line for extra in EXTRAS.values() for line in extra)
    missing, from_an_extra = {}, {}
    for path in tracked(*(f"{folder}/*.py" for folder in RUN_BY_USERS)):
        file = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text("utf-8"))
        for module in third_party_imports(ast.walk(tree)):
            providers = {canonicalize_name(name) for name in distributions.get(module, [module])}
            if providers & dependencies:
                continue
            missing.setdefault(file, set()).add(module)
            if providers & optional and module not in third_party_imports(eager(tree)):
                from_an_extra.setdefault(file, set()).add(module)
    assert missing == FROM_AN_EXTRA
    assert from_an_extra == FROM_AN_EXTRA


def test_locks_have_every_dependency_with_hashes_and_no_address_and_agree():
    locked = {}
    for lock in tracked("requirements*.lock"):
        text = lock.read_text("utf-8")
        assert "://" not in text
        assert re.findall(r"^-.*", text, flags=re.MULTILINE) == []  # no option, such as an index
        blocks = re.split(r"\n(?=[a-z0-9])", text)
        assert [block for block in blocks if "--hash=sha256:" not in block] == []
        for block in blocks:
            name, version = re.match(r"([a-z0-9._-]+)==(\S+)", block).groups()
            locked.setdefault(canonicalize_name(name), []).append((lock.name, version))
    for name, found in locked.items():
        versions = {lock: {version for other, version in found if other == lock} for lock, _ in found}
        assert len(set(map(frozenset, versions.values()))) == 1, name
        assert "requirements.lock" not in versions or len(versions) == 1, f"{name} is locked twice"
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        requirement = Requirement(line)
        versions = [version for _, version in locked[canonicalize_name(requirement.name)]]
        assert [version for version in versions if version not in requirement.specifier] == [], line


def test_what_only_texts_need_is_in_no_lock_of_every_user():
    everybody = (ROOT / "requirements.lock").read_text("utf-8")
    assert re.findall(r"^(?:tokenizers|transformers|huggingface-hub|timm)==", everybody, flags=re.MULTILINE) == []


def test_no_text_proposes_to_install_the_project_by_its_name():
    by_name = re.compile(r"""install\s+(-\S+\s+)*['"]?graftline""")
    texts = [path for path in tracked() if path.suffix in {".md", ".py", ".yaml", ".yml", ".toml"}]
    assert [str(path.relative_to(ROOT)) for path in texts if by_name.search(path.read_text("utf-8"))] == []


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the files that a build reads."""
    copy = tmp_path_factory.mktemp("sources") / "graftline"
    for path in tracked(*PROJECT["license-files"], PROJECT["readme"], "pyproject.toml", "flows", "tasks"):
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return copy


def run_python(*arguments, **options):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_has_every_module_the_page_and_the_license_and_nothing_else(sources, tmp_path):
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    run_python("-c", build, str(tmp_path), cwd=sources)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        facts = archive.read(metadata).decode().partition("\n\n")[0].splitlines()
        [license_file] = [name for name in archive.namelist() if name.endswith("/LICENSE")]
        assert archive.read(license_file) == (ROOT / "LICENSE").read_bytes()
    assert packed == {str(path.relative_to(ROOT)) for path in tracked("flows", "tasks") if path.suffix != ".md"}
    assert "License-Expression: Apache-2.0" in facts
    assert {"Requires-Dist: pytest", 'Requires-Dist: onnx; extra == "export"'} <= set(facts)


def test_an_editable_install_runs_the_code_of_the_clone(sources, tmp_path):
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", f"--prefix={tmp_path / 'prefix'}"]
    run_python("-m", "pip", "--isolated", "install", *options, "--editable", ".[export]", cwd=sources)
    [site] = (tmp_path / "prefix").rglob("site-packages")
    show = "import site, sys; site.addsitedir(sys.argv[1]); import flows, tasks; print(flows.__file__, tasks.__file__)"
    shown = run_python("-c", show, str(site), cwd=tmp_path)
    assert shown.split() == [str(sources / "flows/__init__.py"), str(sources / "tasks/__init__.py")]


MADE_FROM = ("Makefile", "requirements.lock", "requirements-text.lock")  # a .venv
INSTALLER = '''
# plays pip, which installs uv, which installs dvc: scripts that name their interpreter, as real ones do
import sys
from pathlib import Path

def write_script(name, text):
    path = Path(sys.executable).parent / name
    path.write_text(f"#!{sys.executable}\\n{text}")
    path.chmod(0o755)

if __name__ == "__main__":
    Path("installs").open("a").write("once\\n")
    write_script("uv", """import pip, sys
pip.write_script('dvc', 'import sys; print(sys.executable)')
pip.Path('locks').open('a').write(f'{sys.argv[-1]}\\\\n')
""")
'''


@pytest.fixture
def checkout(tmp_path):
    """A folder with the files that `make setup` reads; beside it an interpreter whose venvs need no package index."""
    folder = tmp_path / "p"
    folder.mkdir()
    for name in MADE_FROM:
        shutil.copy(ROOT / name, folder)
    (tmp_path / "installer.py").write_text(INSTALLER, "utf-8")
    interpreter = Path(sys.executable).resolve()
    wrapped = f"""
        [ "$1" = -m ] || exec {interpreter} "$@"
        {interpreter} "$@" --without-pip && cp {tmp_path}/installer.py .venv/lib/python3.11/site-packages/pip.py
    """
    write_script(tmp_path / "python3.11", wrapped)
    write_script(tmp_path / "python3.12", "echo 3.12")
    return folder


def write_script(path, text):
    path.write_text(f"#!/bin/sh\n{text}", "utf-8")
    path.chmod(0o755)


def make(folder, *arguments, status=0, **variables):
    """Run make as a person would, without the variables that `make test` hands down, and return its output."""
    handed_down = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON"}
    environment = {name: value for name, value in os.environ.items() if name not in handed_down} | variables
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def installs(folder):
    return (folder / "installs").read_text("utf-8").count("once")


@pytest.mark.parametrize(
    ("name", "problem"), [("python3.12", "is Python 3.12"), ("python3.10-that-is-not-here", "does not run")]
)
def test_setup_refuses_a_wrong_interpreter_in_one_line_before_it_makes_anything(checkout, name, problem):
    python = checkout.parent / name
    before = sorted(checkout.iterdir())
    for target in ("setup", "test"):
        [line] = make(checkout, target, f"PYTHON={python}", status=2).splitlines()
        assert f"PYTHON={python} {problem}; Graftline needs Python 3.11" in line
        assert "make setup PYTHON=/path/to/python3.11" in line
    assert sorted(checkout.iterdir()) == before


def test_setup_refuses_a_wrong_interpreter_even_after_a_right_one(checkout):
    make(checkout, "setup", f"PYTHON={checkout.parent / 'python3.11'}")
    [line] = make(checkout, "setup", f"PYTHON={checkout.parent / 'python3.12'}", status=2).splitlines()
    assert "is Python 3.12; Graftline needs Python 3.11" in line
    assert (checkout / ".venv/bin/dvc").is_file()


def test_a_second_setup_does_nothing_and_needs_no_interpreter(checkout):
    for _ in range(2):
        make(checkout, "setup", f"PYTHON={checkout.parent / 'python3.11'}")
    make(checkout, "setup", PYTHON="/nowhere/python")
    assert installs(checkout) == 1


def test_a_checkout_that_was_moved_is_set_up_anew(checkout):
    python = f"PYTHON={checkout.parent / 'python3.11'}"
    make(checkout, "setup", python)
    (checkout / ".venv/of-the-old-place").touch()
    moved = checkout.rename(checkout.with_name("q"))
    with pytest.raises(FileNotFoundError):
        subprocess.run([moved / ".venv/bin/dvc", "status"], check=True)  # its interpreter is not there any more
    make(moved, "setup", python)
    done = subprocess.run([moved / ".venv/bin/dvc", "status"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(moved / ".venv/bin/python")
    assert not (moved / ".venv/of-the-old-place").exists()
    assert installs(moved) == 2


def locks(folder):
    """Return the locks that were installed, in order."""
    lines = (folder / "locks").read_text("utf-8").splitlines()
    return [line for line in lines if line.endswith(".lock")]


def test_an_extra_is_added_on_demand_and_stays_when_the_checkout_moves(checkout):
    python = f"PYTHON={checkout.parent / 'python3.11'}"
    make(checkout, "setup", python)
    assert locks(checkout) == ["requirements.lock"]
    for _ in range(2):
        make(checkout, "setup", python, "EXTRAS=text")
    make(checkout, "setup", python)
    assert locks(checkout) == ["requirements.lock", "requirements-text.lock"]
    moved = checkout.rename(checkout.with_name("q"))
    make(moved, "setup", python)
    assert locks(moved) == 2 * ["requirements.lock", "requirements-text.lock"]


def test_a_clone_of_a_project_of_texts_gets_what_texts_need(checkout):
    text = (ROOT / "params.yaml").read_text("utf-8")
    (checkout / "params.yaml").write_text(text.replace("modality: images", "modality: text"), "utf-8")
    make(checkout, "setup", f"PYTHON={checkout.parent / 'python3.11'}")
    assert locks(checkout) == ["requirements.lock", "requirements-text.lock"]


def test_an_unknown_extra_is_refused_in_one_line(checkout):
    [line] = make(checkout, "setup", "EXTRAS=txet", status=2).splitlines()
    assert "EXTRAS=txet has an unknown extra, expected some of: text" in line  # which is the only lock here
    assert not (checkout / ".venv").exists()


def test_a_venv_that_is_a_link_is_replaced_and_its_target_left_alone(checkout):
    python = f"PYTHON={checkout.parent / 'python3.11'}"
    make(checkout, "setup", python)
    other = checkout.with_name("q")
    other.mkdir()
    for name in MADE_FROM:
        shutil.copy(checkout / name, other)
    (other / ".venv").symlink_to(checkout / ".venv")
    make(other, "setup", python)
    assert not (other / ".venv").is_symlink()
    assert (checkout / ".venv/.ready").read_text("utf-8").strip() == str(checkout)


def test_help_names_every_target_with_a_line():
    targets = re.search(r"^\.PHONY: (help .*)$", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)[1].split()
    lines = make(ROOT, "help").splitlines()
    assert [line.split()[:2] for line in lines] == [["make", name] for name in targets if name != "interpreter"]
    assert all(len(line.split()) > 3 for line in lines)
    assert make(ROOT).splitlines() == lines


def test_a_clone_has_lf_under_autocrlf(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "-c", "core.autocrlf=true", str(ROOT), str(clone)], check=True)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=clone, capture_output=True, text=True, check=True).stdout
    texts = [name for name in files.split("\0") if name and not name.endswith((".png", ".safetensors", ".parquet"))]
    assert {".ci/run", "Makefile", "dvc.yaml", "tests/contract/test_packaging.py"} <= set(texts)
    assert [name for name in texts if b"\r\n" in (clone / name).read_bytes()] == []
    assert (clone / ".ci/check-pipeline").read_bytes().startswith(b"#!/usr/bin/env bash\n")
    for name in sorted({*files.split("\0")} - {*texts, ""}):
        committed = subprocess.run(
            ["git", "cat-file", "blob", f"HEAD:{name}"], cwd=clone, capture_output=True, check=True
        )
        assert (clone / name).read_bytes() == committed.stdout, name
