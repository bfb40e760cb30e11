"""An embedding store in; what it holds told, or some of it removed: a recipe, what is no longer used, what is damaged."""

import logging
import shutil
from datetime import date, datetime
from pathlib import Path

from tasks.data.store.pruning import REMOVED, remove_damaged, remove_folder, remove_unused, size_of
from tasks.data.store.segments import (
    list_segments,
)
from tasks.data.store.store import is_store, list_recipes, read_recipe
from tasks.stage.main import main

logger = logging.getLogger("graftline")


def run(*, store: Path, recipe: str | None, unused_since: date | None, damaged: bool) -> None:
    """List the recipes of an embedding store; or remove the recipe whose fingerprint begins as given, or what no run
    read or wrote since a day, such as 2026-01-31, or what is damaged. Embed makes anew what it then misses."""
    if not is_store(store):
        raise ValueError(f"there is no embedding store at {store}: name the folder of one")
    if (recipe is not None) + (unused_since is not None) + damaged > 1:
        raise ValueError("--recipe, --unused-since and --damaged each say what is to go: give one of them")
    if recipe is not None:
        freed = remove_folder(choose(store, prefix=recipe))
    elif unused_since is not None:
        freed = remove_unused(store, since=unused_since)
    elif damaged:
        freed = remove_damaged(store)
    else:
        for folder in list_recipes(store):
            logger.info("%s", describe(folder))
        return
    for remnant in store.glob(f"{REMOVED}*"):  # of a prune that was killed
        freed += size_of(remnant)
        shutil.rmtree(remnant)
    logger.info("freed %s", freed)


def describe(folder: Path) -> str:
    """A line about a recipe."""
    try:
        recipe = read_recipe(folder)
        made_by = " ".join(str(recipe[key]) for key in ("architecture", "precision") if key in recipe)
    except ValueError:
        made_by = "damaged"
    used = [keys.stat().st_mtime for keys in list_segments(folder)]
    last_use = f"last used {datetime.fromtimestamp(max(used)).date()}" if used else "never used"
    return ", ".join(part for part in (folder.name[:12], made_by, str(size_of(folder)), last_use) if part)


def choose(store: Path, *, prefix: str) -> Path:
    """The folder of the one recipe whose fingerprint begins with `prefix`. Raises ValueError where there are none or
    several."""
    folders = list_recipes(store)
    chosen = [folder for folder in folders if prefix and folder.name.startswith(prefix)]
    if len(chosen) != 1:
        held = ", ".join(folder.name[:12] for folder in chosen or folders) or "none"
        raise ValueError(f"{prefix!r} begins the name of {len(chosen)} recipes of {store}, expected one of: {held}")
    return chosen[0]


if __name__ == "__main__":
    main(run)
