"""`discover` as a child that ends with its parent: `python -m discover.cli.attached worker ...`.

Its standard input is a pipe that the parent holds and never writes to. When the parent is gone the
pipe ends, on every system and however the parent went, also by kill -9.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from discover.cli import main

GRACE = 30.0
"""Seconds to end in good order once the parent is gone."""


def watch() -> None:
    """Wait for the parent's end, then end this process: in good order, or after a while anyhow."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=watch, name="parent watch", daemon=True).start()
    main()
