"""A real PostgreSQL server from the system's packages, for the length of the tests."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A running server, reached over a socket in a folder."""

    folder: Path
    bin: Path
    user: str

    def database(self, name):
        """Make an empty database; its URL."""
        created = [self.bin / "createdb", "-h", self.folder, "-U", self.user, name]
        subprocess.run(created, check=True, capture_output=True)
        return f"postgresql+psycopg://{self.user}@/{name}?host={self.folder}"


def programs():
    """The folder with initdb and pg_ctl; None where there is no server to start."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    there = shutil.which("initdb")
    return found[-1].parent if found else Path(there).parent if there else None


@contextlib.contextmanager
def server():
    """Start one as a user that may: never as root, which it refuses."""
    place = programs()
    assert place is not None, "no PostgreSQL server here: apt-get install postgresql"
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    who = {"user": user, "group": pwd.getpwnam(user).pw_gid} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="lrtune-pg-", dir="/tmp"))
    if who:
        shutil.chown(folder, user)
    folder.chmod(0o755)
    data, settings = folder / "data", f"-k {folder} -h '' -c fsync=off"

    def run(*command):
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **who)

    try:
        run(place / "initdb", "-D", data, "-U", user, "-A", "trust", "-E", "UTF8", "--no-sync")
        # It must not hold the pipes of its parent, or nobody ever sees their end.
        log = folder / "log"
        run(place / "pg_ctl", "-D", data, "-w", "-l", log, "-o", settings, "start")
        try:
            yield Server(folder, place, user)
        finally:
            run(place / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
