"""The server under test: `forge run` on the shipped routes.yaml, or the demo provider alone.

Everything it writes goes to a temporary folder; it is ended by its process id.
"""

import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 10


@dataclass
class Server:
    """Where it is reached, and the keys it knows."""

    url: str
    #: Of the tier that may call every model.
    key: str
    #: Of the tier `free`, which may call `priyo-*` only.
    limited_key: str
    #: False for the demo provider alone, which checks no key and knows every model.
    is_gateway: bool
    process: subprocess.Popen

    def stop(self):
        """Ends it as a service manager does; fails if it has to be killed."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start(folder: Path) -> Server:
    if os.environ.get("FORGE_SDK_TARGET", "gateway") == "demo":
        return _start_demo(folder)
    return _start_gateway(folder)


def _start_demo(folder: Path) -> Server:
    process = _spawn([TARGET / "examples" / "demo"], folder)
    url = _await_output(process, folder, r"http://\S+").group(0)
    return Server(url, "sk-demo-any", "sk-demo-any", False, process)


def _start_gateway(folder: Path) -> Server:
    port, admin_port = _free_port(), _free_port()
    limited_key = "sk-test-limited-0123456789abcdef"
    limited_hash = hashlib.sha256(limited_key.encode()).hexdigest()
    shipped = (ROOT / "routes.yaml").read_text()
    assert "\nkeys:\n" in shipped, "routes.yaml ends with its keys; the suite adds one"
    (folder / "routes.yaml").write_text(
        f'{shipped.rstrip()}\n  - {{ name: limited, hash: "sha256:{limited_hash}", tier: free }}\n'
    )
    (folder / "forge.yaml").write_text(
        f"listen: 127.0.0.1:{port}\n"
        f"admin:\n  listen: 127.0.0.1:{admin_port}\n"
        f"routes: {folder}/routes.yaml\n"
        f"pid_file: {folder}/forge.pid\n"
        f"upgrade_sock: {folder}/upgrade.sock\n"
        f"grace: 5s\n"
    )
    process = _spawn([TARGET / "forge", "run", "--conf", folder / "forge.yaml"], folder)
    key = _await_output(process, folder, r"\bsk-[A-Za-z0-9_-]{16,}").group(0)
    _await_listener(process, port)
    return Server(f"http://127.0.0.1:{port}", key, limited_key, True, process)


def _spawn(command: list, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        stdout=(folder / "stdout.log").open("wb"),
        stderr=(folder / "stderr.log").open("wb"),
    )


def _await_output(process: subprocess.Popen, folder: Path, pattern: str) -> re.Match:
    """Where `pattern` first stands in what the process prints."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(pattern + r"(?=\s)", (folder / "stdout.log").read_text()):
            return found
        time.sleep(0.02)
    process.kill()
    print((folder / "stderr.log").read_text(), file=sys.stderr)
    raise RuntimeError(f"{process.args[0]} printed nothing like {pattern}")


def _await_listener(process: subprocess.Popen, port: int):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    process.kill()
    raise RuntimeError(f"nothing listens on port {port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
