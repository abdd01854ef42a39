"""`python -m demo.embedded [DIRECTORY]`: serve the embedded API until interrupted."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from pathlib import Path

from demo.embedded.api import EmbeddedApi
from lab.errors import LabError


def main() -> int:
    """Serve; the state stays in the directory, or is gone with a temporary one."""
    with tempfile.TemporaryDirectory(prefix="dsg-embedded-") as temporary:
        directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        try:
            with EmbeddedApi(directory) as api:
                signal.signal(signal.SIGTERM, signal.default_int_handler)
                print(f"serving {api.url}\nexport KUBECONFIG={api.kubeconfig('admin')}", flush=True)
                threading.Event().wait()
        except KeyboardInterrupt:
            return 0
        except LabError as error:
            print(f"demo: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
