"""Build the content of deploy/Dockerfile's image without a container engine, and state how large the image is.

The RUN steps of the stage `packages` are run in a folder of its own, with `uv` of this environment. Then the commands
of the image are started there, on a clone of this project without data: the Prefect server, the process that runs
deployments, whose health is asked as the image's HEALTHCHECK does, and the help of the service. No environment variable
leads back to this environment.

`ship.image_megabytes` is the size of the packages, with their byte code, plus those of the base image and of git, which
are not measured here: BASE_MEGABYTES is above the size in the registry of the base image, and GIT_MEGABYTES is the sum
of the Installed-Size of Debian's packages.

Where the index of PyTorch cannot be reached, --torch-wheel FILE names another build of torch for the processor. The
settings have its version.
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from benchmarks.kit.dockerfile import Instruction, read
from benchmarks.kit.machine import Claim, finish, parser, show

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "deploy/Dockerfile"
ENVIRONMENT = "/opt/graftline"  # in the image
BASE_MEGABYTES, GIT_MEGABYTES = 150, 100
TARGET_MEGABYTES = 2000
COMPILERS = ("gcc", "g++", "cc", "c++", "clang", "make", "ninja", "nvcc", "rustc")
# beyond pytest, which the gate runs its tests with
TEST_TOOLS = ("hypothesis", "moto", "mypy", "playwright", "pytest-xdist", "pytest-timeout", "ruff", "import-linter")
SECONDS = 180.0  # for a server to answer


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--torch-wheel", type=Path, help="a wheel of torch, instead of the index's")
    wheel = arguments.parse_args().torch_wheel
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environment = place / "packages"
        begin = time.monotonic()
        for command in steps(read(DOCKERFILE)[0]):
            run(command, environment=environment, place=place, wheel=wheel)
        installed = {
            canonicalize_name(package.name): package.version
            for package in distributions(path=[str(site_of(environment))])
        }
        unwanted = sorted({*installed} & {canonicalize_name(name) for name in TEST_TOOLS})
        compilers = [name for name in COMPILERS if (environment / "bin" / name).exists()]
        assert not unwanted, f"the image has test tools: {unwanted}"
        assert not compilers, f"the image has compilers: {compilers}"
        megabytes = sum(file.lstat().st_size for file in environment.rglob("*") if not file.is_dir()) / 1e6
        started = start(place, environment)
        seconds = time.monotonic() - begin
    raw = {
        "packages_megabytes": round(megabytes), "packages": len(installed), "seconds": round(seconds),
        "started": started,
    }  # fmt: skip
    settings = {
        "base_megabytes": BASE_MEGABYTES,
        "git_megabytes": GIT_MEGABYTES,
        "torch": installed[canonicalize_name("torch")],
    }
    total = megabytes + BASE_MEGABYTES + GIT_MEGABYTES
    claim = Claim(name="ship.image_megabytes", value=round(total), target=TARGET_MEGABYTES, at_least=False)
    finish(settings=settings, raw=raw, claims=[claim])


def steps(stage: list[Instruction]) -> list[str]:
    """Return the commands of the stage's RUN steps, with the default of each ARG in its place, but the one for uv."""
    defaults = {}
    commands = []
    for step in stage:
        if step.name == "ARG":
            name, _, default = step.text.partition("=")
            defaults[name] = default.strip('"')
        elif step.name == "RUN":
            for command in step.commands():
                for name, default in defaults.items():
                    command = command.replace(f"${{{name}}}", default)
                commands.append(command)
    return [command for command in commands if command.split()[0] in ("uv", "find")]


def run(command: str, *, environment: Path, place: Path, wheel: Path | None) -> None:
    """Run a command as the image's build does, with `environment` for the environment of the image."""
    words = [word.replace(ENVIRONMENT, str(environment)) for word in shlex.split(command)]
    if words[0] == "uv":
        words[0] = str(Path(sys.executable).with_name("uv"))
    if words[1] == "venv":
        words += ["--python", sys.executable]
    elif wheel is not None and words[1] == "pip":
        words = with_wheel(words, place, wheel)
    show(" ".join(words))
    variables = {"UV_COMPILE_BYTECODE": "1", "UV_LINK_MODE": "copy"}
    subprocess.run(words, cwd=ROOT, env=os.environ | variables, check=True)


def with_wheel(words: list[str], place: Path, wheel: Path) -> list[str]:
    """Return the command with another torch: an override, and the lock without torch and the packages for CUDA."""
    version = wheel.name.split("-")[1]
    (place / "override.txt").write_text(f"torch=={version}\n", "utf-8")
    pinned = [line.partition(" \\")[0] for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines()]
    kept = [
        line for line in pinned if line[:1].isalnum() and not line.startswith(("torch==", "triton", "nvidia", "cuda"))
    ]
    (place / "constraints.txt").write_text("\n".join(kept) + "\n", "utf-8")
    left = [word for word in words if word not in ("--torch-backend", "cpu")]
    left[left.index("--constraint") + 1] = str(place / "constraints.txt")
    return [*left, "--override", str(place / "override.txt"), "--find-links", str(wheel.parent)]


def site_of(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))


def start(place: Path, environment: Path) -> list[str]:
    """Start the commands of the image on a clone, and return those that answered; assert that all do."""
    project, home = place / "project", place / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    landing = place / "landing"
    landing.mkdir()
    api, health = free_port(), free_port()
    surroundings = {
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin", "HOME": str(home), "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{api}/api", "PREFECT_API_AUTH_STRING": "graftline:benchmark-of-the-image",
        "PREFECT_SERVER_API_AUTH_STRING": "graftline:benchmark-of-the-image", "GRAFTLINE_LANDING": str(landing),
        "PYTHONDONTWRITEBYTECODE": "1", "DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false",
    }  # fmt: skip
    started = []
    for words in (["python", "-m", "flows", "serve", "--help"], ["python", "-m", "flows", "watch", "--help"]):
        python = shutil.which(words[0], path=surroundings["PATH"])
        subprocess.run(words, executable=python, cwd=project, env=surroundings, check=True, stdout=subprocess.DEVNULL)
        started.append(" ".join(words))
    server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(api)]
    image = read(DOCKERFILE)[-1]
    schedule = next(one for one in image if one.name == "CMD").words()
    probe = next(one for one in image if one.name == "HEALTHCHECK").words()
    schedule, probe = ([word.replace("8790", str(health)) for word in words] for words in (schedule, probe))
    of_server = [
        "python",
        "-c",
        f"from urllib.request import urlopen; urlopen('{surroundings['PREFECT_API_URL']}/health')",
    ]
    with running(server, project, surroundings, until=of_server), running(schedule, project, surroundings, until=probe):
        started += [" ".join(server[:3]), " ".join(schedule), "HEALTHCHECK"]
    return started


@contextmanager
def running(words: list[str], project: Path, own: dict[str, str], *, until: list[str]) -> Iterator[None]:
    """Start a command of the image, and enter the block once its probe, `until`, succeeds."""
    show(" ".join(words))
    log = project.with_name("log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, cwd=project, env=own, stdout=file, stderr=file, start_new_session=True,
            executable=shutil.which(words[0], path=own["PATH"]),
        )  # fmt: skip
    try:
        end = time.monotonic() + SECONDS
        probe = shutil.which(until[0], path=own["PATH"])
        while subprocess.run(until, executable=probe, env=own, check=False, stderr=subprocess.DEVNULL).returncode:
            is_over = process.poll() is not None or time.monotonic() > end
            assert not is_over, f"{' '.join(words)} is not healthy: {log.read_text('utf-8')[-1000:]}"
            time.sleep(2)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
