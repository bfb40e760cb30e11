"""The environment of a run's programs: without variables of another repository, with those that a container lacks."""

import os
import pwd
from pathlib import Path
from urllib.request import getproxies_environment

# `git rev-parse --local-env-vars`: a hook sets them for its own repository
OF_ANOTHER_REPOSITORY = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY", "GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_GRAFT_FILE", "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE", "GIT_PREFIX", "GIT_INTERNAL_SUPER_PREFIX", "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
)  # fmt: skip
# further ones by which git finds another repository, reads a path in another way, or may write no branch
STEERING = (
    "GIT_CEILING_DIRECTORIES", "GIT_NAMESPACE", "GIT_QUARANTINE_PATH", "GIT_ATTR_SOURCE", "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS", "GIT_REF_PARANOIA",
)  # fmt: skip
# git sets them for the hooks of a commit, which are known by the index that they get
OF_ANOTHER_COMMIT = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE")
OF_A_HOOK = "GIT_INDEX_FILE"
USER_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # where getpass.getuser looks first
LOOPBACK = ("localhost", "127.0.0.1", "::1")
OWN_HOME = Path(".dvc/tmp/home")  # where the user has no folder that can be written to


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a program, with these settings."""
    unwanted = dropped()
    return {name: value for name, value in os.environ.items() if name not in unwanted} | missing() | settings


def settle_environment() -> None:
    """Make this process's environment that of the programs it starts; to be called before Prefect is imported."""
    for name in dropped() & os.environ.keys():
        del os.environ[name]
    os.environ.update(missing())


def dropped() -> frozenset[str]:
    """Return the names of the variables that a program must not inherit."""
    return DROPPED.union(OF_ANOTHER_COMMIT if OF_A_HOOK in os.environ else ())


def missing() -> dict[str, str]:
    """Return the variables that programs need and the environment does not have."""
    return _of_a_nameless_user() | _home_of_prefect() | past_the_proxy()


def past_the_proxy() -> dict[str, str]:
    """Return the variables by which requests to this machine pass by a proxy, where there is one."""
    excepted = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = [host.strip() for host in ",".join(excepted).split(",") if host.strip()]
    lacking = [host for host in LOOPBACK if host not in hosts]
    if "*" in hosts or not lacking or not getproxies_environment().keys() - {"no"}:
        return {}
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(dict.fromkeys([*hosts, *lacking])))


def can_be_written(folder: Path) -> bool:
    """Return whether a folder can be written to, or made where it is missing."""
    nearest = next(place for place in (folder, *folder.parents) if os.path.exists(place))  # noqa: PTH110  no error
    return nearest.is_dir() and os.access(nearest, os.W_OK)


def _of_a_nameless_user() -> dict[str, str]:
    """Return a name, and a home, for a user that the system has no entry of, as in a container."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        name = {} if any(os.environ.get(name) for name in USER_NAMES) else {"USER": str(os.getuid())}
        return name | ({} if os.environ.get("HOME") else {"HOME": _made(OWN_HOME)})
    return {}


def _home_of_prefect() -> dict[str, str]:
    """Return a place for Prefect's own files where the user's home cannot be written to."""
    home = Path(os.path.expanduser("~")) / ".prefect"  # noqa: PTH111  without a home it stays as it is
    if os.environ.get("PREFECT_HOME") or can_be_written(home) or not OWN_HOME.parent.is_dir():
        return {}
    profiles = home / "profiles.toml"
    theirs = {"PREFECT_PROFILES_PATH": str(profiles)} if os.access(profiles, os.R_OK) else {}
    return {"PREFECT_HOME": _made(OWN_HOME)} | theirs


def _made(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder.absolute())


DROPPED = frozenset(OF_ANOTHER_REPOSITORY + STEERING)
