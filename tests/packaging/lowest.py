"""Write constraints-lowest.txt: the lowest versions that pyproject.toml allows (`make lowest`).

torch is not lowered. Older releases come as builds for CUDA of some gigabytes from the package
index; the one in constraints.txt is what is at hand as a small build for CPUs.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TORCH = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]
HEAD = """\
# The lowest versions that pyproject.toml allows of what it names, for `make test-lowest`.
# Made by `make lowest`; torch is that of constraints.txt, as older builds for CPUs are not at hand.
"""
CUDA = re.compile(r"^(nvidia|cuda|triton)")
"""What torch needs with CUDA only."""


def main():
    """Resolve, and write."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as override:
        override.write(f"{TORCH}\n")
        override.flush()
        uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "pyproject.toml"]
        options = ["--resolution", "lowest-direct", "--extra", "dev", "--python-version", "3.11"]
        plain = ["--no-header", "--no-annotate", "--override", override.name]
        made = subprocess.run(
            [*uv, *options, *plain], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        )
    lines = [line for line in made.stdout.splitlines() if not CUDA.match(line)]
    (ROOT / "constraints-lowest.txt").write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
