"""An environment for the libraries that ours is compared with, locked in `requirements-bench.lock`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-bench.lock"
FOLDER = ROOT / ".venv" / "peers"


def peers_python(folder: Path = FOLDER, lock: Path = LOCK) -> str:
    """Return its interpreter; it is made when it is first asked for, and anew where the lock has changed.

    Raises OSError with pip's last line if that fails.
    """
    python, made_of = folder / "bin" / "python", folder / "made-of.lock"
    wanted = lock.read_text("utf-8")
    if not made_of.exists() or made_of.read_text("utf-8") != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--require-hashes", "-r", str(lock)])
        made_of.write_text(wanted, "utf-8")
    return str(python)


def locked_version(package: str, lock: Path = LOCK) -> str:
    """Return the version that the lock has of a package."""
    lines = lock.read_text("utf-8").splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{package}=="))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise OSError(f"{' '.join(command[-3:])}: {said[-1] if said else f'exit {done.returncode}'}")
