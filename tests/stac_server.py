"""Throw-away servers on loopback: files over HTTP ranges that can misbehave, and a real STAC API.

`FileServer` serves a folder, answers 206 to range requests and follows a script of faults.
`StacServer` is PostgreSQL + PostGIS + pgstac + stac-fastapi-pgstac, started in a temporary folder
and stopped by process id; where the programs are missing, `StacServer.missing()` says which.
"""

import contextlib
import ctypes
import functools
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path


@dataclass
class FileServer:
    """A folder over HTTP, with scripted faults.

    `faults[path]` is a list of what happens to the next requests for that path: an int is a
    status, `stall` keeps the socket open, `truncate` sends half a body, `garbage` random bytes,
    `redirect:URL` points elsewhere; `*` stands for any path. `always` applies when the list is
    empty. `pages[path]` is served as it is.
    """

    root: Path
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    always: dict[str, int | str] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    token: str = ""
    """If set, every file needs `?token=` with this value, else 403."""
    slow: float = 0.0
    """Seconds between the bytes of a page (a slow-loris)."""
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        handler = functools.partial(_Handler, self)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def next_fault(self, path: str) -> int | str | None:
        for key in (path, "*"):
            if self.faults.get(key):
                return self.faults[key].pop(0)
        return self.always.get(path, self.always.get("*"))

    def close(self) -> None:
        self.stop.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, owner: FileServer, *args: object) -> None:
        self.owner = owner
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.owner.asked.append(self.path)
        fault = self.owner.next_fault(path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if fault == "stall":
                self.owner.stop.wait(30)
                self.close_connection = True
            elif isinstance(fault, int):
                self._send(fault, b"fault")
            elif isinstance(fault, str) and fault.startswith("redirect:"):
                self._send(302, b"", {"Location": fault.removeprefix("redirect:")})
            elif path in self.owner.pages:
                kind = {"Content-Type": "application/json"}
                self._send(200, self.owner.pages[path], kind, truncate=fault == "truncate")
            elif self.owner.token and f"token={self.owner.token}" not in query:
                self._send(403, b"signature expired")
            else:
                self._file(path, fault)

    def _file(self, path: str, fault: str | int | None) -> None:
        file = self.owner.root / path.lstrip("/")
        if not file.is_file():
            return self._send(404, b"no such file")
        body = file.read_bytes() if fault != "garbage" else bytes(range(256)) * 64
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {"Accept-Ranges": "bytes", "Content-Type": "image/tiff"}
        if not wanted or fault == "no-range":
            return self._send(200, body, headers, truncate=fault == "truncate")
        first, last = int(wanted[1]), int(wanted[2] or len(body) - 1)
        part = body[first : last + 1]
        if fault == "wrong-range":
            part, first = body[: len(part)], 0
            last = len(part) - 1
        if not part:
            return self._send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(body)}"
        return self._send(206, part, headers, truncate=fault == "truncate")

    def _send(
        self, status: int, body: bytes, headers: dict | None = None, truncate: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if truncate:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif self.owner.slow:
            for i in range(len(body)):
                if self.owner.stop.wait(self.owner.slow):
                    return
                self.wfile.write(body[i : i + 1])
                self.wfile.flush()
        else:
            self.wfile.write(body)


class StacServer:
    """A STAC API on a database of its own, both thrown away at the end."""

    def __init__(self, collections: list[dict], items: list[dict]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="skysense-stac-"))
        self.started: list[subprocess.Popen] = []
        try:
            self._database()
            self._fill(collections, items)
            self._api()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def missing() -> str:
        """Why no server can be started here; empty if one can."""
        for module in ("stac_fastapi.pgstac", "pypgstac", "psycopg", "uvicorn"):
            try:
                if find_spec(module) is None:
                    return f"the Python package {module} is not installed"
            except ModuleNotFoundError:
                return f"the Python package {module} is not installed"
        if not StacServer._programs():
            return "PostgreSQL is not installed (apt: postgresql-15-postgis-3)"
        places = [StacServer._programs().parent / "share", *Path("/usr/share/postgresql").glob("*")]
        if not any((place / "extension" / "postgis.control").exists() for place in places):
            return "PostGIS is not installed (apt: postgresql-15-postgis-3)"
        if os.geteuid() == 0:
            try:
                pwd.getpwnam("postgres")
            except KeyError:
                return "PostgreSQL refuses to run as root and there is no user postgres"
        return ""

    @staticmethod
    def _programs() -> Path | None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        found += [Path(p) for p in [shutil.which("initdb")] if p]
        return found[0].parent if found else None

    def _database(self) -> None:
        self.data = self.folder / "pg"
        self.data.mkdir()
        self.user: dict = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            postgres = pwd.getpwnam("postgres")
            self.folder.chmod(0o755)
            os.chown(self.data, postgres.pw_uid, postgres.pw_gid)
            self.user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        programs = self._programs()
        subprocess.run(
            [programs / "initdb", "-D", self.data, "-A", "trust", "-N", "--no-instructions",
             "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", **self.user,
        )  # fmt: skip
        self.port = _free_port()
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
            "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
            "shared_buffers": "32MB", "jit": "off",
        }  # fmt: skip
        command = [programs / "postgres", "-D", self.data]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._start(command, signal.SIGQUIT, **self.user)
        self.env = {
            "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres",
            "PGPASSWORD": "x", "PGDATABASE": "stac",
        }  # fmt: skip

    def _fill(self, collections: list[dict], items: list[dict]) -> None:
        import psycopg
        from pypgstac.db import PgstacDB
        from pypgstac.load import Loader, Methods
        from pypgstac.migrate import Migrate

        base = f"host=127.0.0.1 port={self.port} user=postgres"
        for _ in range(400):
            try:
                connection = psycopg.connect(f"{base} dbname=postgres", autocommit=True)
                break
            except psycopg.OperationalError:
                self._alive()
                time.sleep(0.025)
        with connection:
            connection.execute("create database stac")
        with psycopg.connect(f"{base} dbname=stac", autocommit=True) as connection:
            for extension in ("postgis", "btree_gist", "unaccent"):
                connection.execute(f"create extension {extension}")
        with PgstacDB(dsn=f"postgresql://postgres:x@127.0.0.1:{self.port}/stac") as db:
            Migrate(db).run_migration()
            loader = Loader(db)
            for kind, records in (("collections", collections), ("items", items)):
                file = self.folder / f"{kind}.ndjson"
                file.write_text("".join(json.dumps(r) + "\n" for r in records))
                getattr(loader, f"load_{kind}")(str(file), Methods.upsert)

    def _api(self) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._start(
            [sys.executable, "-m", "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory",
             "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"],
            signal.SIGTERM, env={**os.environ, **self.env},
        )  # fmt: skip
        for _ in range(1200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/_mgmt/ping", timeout=1)
                return
            self._alive()
            time.sleep(0.025)
        raise TimeoutError("the STAC API did not come up")

    def _start(self, command: list, at_death: int, **kwargs: object) -> None:
        log = (self.folder / f"log{len(self.started)}").open("wb")
        self.started.append(
            subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/",
                preexec_fn=functools.partial(_die_with_parent, at_death),  # noqa: PLW1509
                **kwargs,
            )
        )  # fmt: skip

    def _alive(self) -> None:
        for i, process in enumerate(self.started):
            if process.poll() is not None:
                raise RuntimeError((self.folder / f"log{i}").read_text()[-2000:])

    def close(self) -> None:
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM if process is not self.started[0] else signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent(sig: int) -> None:
    """Ask Linux to signal this child if the tests are killed, so that nothing stays behind."""
    if _LIBC is not None:
        _LIBC.prctl(1, sig)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
