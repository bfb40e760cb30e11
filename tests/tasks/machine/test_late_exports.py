import sys

import pytest

from tasks.machine.late_exports import late_exports

INIT = '''"""A package."""

from __future__ import annotations

from . import part
from .late import Late, other as renamed
from .used import Used

made = Used()
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    place = tmp_path / "passing_on"
    place.mkdir()
    (place / "__init__.py").write_text(INIT, "utf-8")
    for name, text in {"part": "number = 1", "late": "class Late: pass\nother = 2", "used": "class Used: pass"}.items():
        (place / f"{name}.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with late_exports("passing_on"):
        import passing_on
    yield passing_on
    for name in [name for name in sys.modules if name.startswith("passing_on")]:
        del sys.modules[name]


def test_what_a_package_passes_on_is_loaded_when_it_is_asked_for(package):
    assert not {"passing_on.late", "passing_on.part"} & sys.modules.keys()
    assert package.renamed == 2
    assert package.Late is sys.modules["passing_on.late"].Late
    assert package.part.number == 1


def test_what_the_rest_of_the_package_uses_is_loaded_at_once(package):
    assert type(package.made) is sys.modules["passing_on.used"].Used


def test_name_that_the_package_lacks_is_the_usual_error(package):
    with pytest.raises(AttributeError, match="module 'passing_on' has no attribute 'missing'"):
        _ = package.missing
    with pytest.raises(ImportError):
        from passing_on import missing  # noqa: F401
