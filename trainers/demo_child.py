"""A tocsin command that ends with the demo that started it: whatever became of the demo, its end of our stdin closes.

    python -P -m trainers.demo_child VERB …
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from engine.cli import main


def _end_with_parent() -> None:
    while os.read(0, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main())
