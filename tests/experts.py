"""An installed package of experts that end their process, raise, never end, are cut off, or want a GPU that isn't there."""

from __future__ import annotations

from pathlib import Path

DEADLY = '''
import os, pathlib, signal, time
from multiprocessing.connection import Connection
from trainers.experts.devices import Device, Gpus
from trainers.experts.lightgbm import LightGBMExpert


class Deadly(LightGBMExpert):
    """As a library that crashes."""

    name = "deadly"

    def _train(self, task):
        os.kill(os.getpid(), signal.SIGSEGV)


class Failing(LightGBMExpert):
    """As a library that refuses."""

    name = "failing"

    def _train(self, task):
        raise RuntimeError("no such luck")


class Slow(LightGBMExpert):
    """Says on a file that it has begun, and never ends."""

    name = "slow"
    cost = 9.0

    def _train(self, task):
        pathlib.Path(os.environ["BEGUN"]).touch()
        time.sleep(600)


class Cut(LightGBMExpert):
    """Killed while it sends what it fitted."""

    name = "cut"

    def to_bytes(self):
        def half(connection, data, *rest):
            os.write(connection.fileno(), data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        Connection._send = half
        return super().to_bytes()


class First(LightGBMExpert):
    """Believes that there is one GPU, and notes when it was on it."""

    name = "first"

    def _gpus(self):
        return Gpus(1)

    def _train(self, task):
        notes = pathlib.Path(os.environ["NOTES"])
        began = time.monotonic()
        time.sleep(0.3)
        (notes / self.name).write_text(f"{began} {time.monotonic()} {task.device.kind} {task.device.number}")
        return super()._train(task._replace(device=Device("cpu")))


class Second(First):
    name = "second"
'''


def installed(folder: Path) -> Path:
    """The folder, to be put on the path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deadlies.py").write_text(DEADLY)
    info = folder / "deadlies-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadlies\nVersion: 1\n")
    offered = [f"{name.lower()} = deadlies:{name}" for name in ("Deadly", "Failing", "Slow", "Cut", "First", "Second")]
    (info / "entry_points.txt").write_text("\n".join(["[tocsin.expert]", *offered, ""]))
    return folder
