"""Start MONAI Label with the bundles of a folder: ``bash tools/monailabel/serve.sh --studies DIR``.

It needs the environment that ``bash tools/monailabel/setup.sh`` makes. A bundle segments with the weights in its
models/model.pt (and the settings in models/model.json beside them); where there are none, a line says so. A training in
MONAI Label changes these two files; nothing else in a bundle is written. The server's log, its trainings and its
sessions go to --workspace, labels to the studies.

Nobody but this computer reaches the server unless --host says otherwise: it asks for no password.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from tools.benchmark.arguments import OneLineParser
from tools.monailabel.bundles import find_bundles

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("bash tools/monailabel/serve.sh", __doc__)
    parser.add_argument("--studies", required=True, help="folder of the images; or a DICOMweb server's address")
    parser.add_argument("--bundles", type=Path, default=ROOT / "bundles", metavar="DIR", help="default: bundles/ here")
    parser.add_argument("--models", default="", metavar="A,B", help="some of the bundles; default: all")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument(
        "--workspace", type=Path, default=ROOT / ".monailabel", metavar="DIR", help="default: .monailabel/ here"
    )
    return parser.parse_args(argv)


def _check(options: argparse.Namespace) -> None:
    find_bundles(options.bundles, [name.strip() for name in options.models.split(",") if name.strip()])
    if not options.studies.startswith(("http://", "https://")) and not Path(options.studies).is_dir():
        raise InputError(options.studies, "is not a folder", "pass --studies with the folder of the images")
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((options.host, options.port))
    except (OSError, OverflowError) as error:
        where, problem = f"--host {options.host} --port {options.port}", f"cannot be used ({error})"
        raise InputError(where, problem, "choose another port, or an address of this computer") from error


def _prepare(options: argparse.Namespace) -> Path:
    """Make the server's own folder and set what MONAI Label takes from the environment; return the folder."""
    workspace = options.workspace.resolve()
    app = workspace / "app"
    try:
        app.mkdir(parents=True, exist_ok=True)
        (app / "main.py").write_text("from tools.monailabel.app import LocalBundles  # noqa: F401\n", encoding="utf-8")
    except OSError as error:
        raise InputError(workspace, f"cannot be written ({error.strerror})", "pass another --workspace") from error
    # Trainings are processes of their own, started by their module's name.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.environ.setdefault("MONAI_LABEL_SESSION_PATH", str(workspace / "sessions"))
    return app


def _close_to_pages(port: int) -> None:
    """Let no page of another server, open in a browser here, ask this one; by default every page may.

    MONAI Label reads the setting when its application is imported, and later trips over one that is not empty.
    """
    from monailabel.config import settings  # reads the environment when it is imported

    settings.MONAI_LABEL_CORS_ORIGINS = [f"http://127.0.0.1:{port}"]
    importlib.import_module("monailabel.app")
    settings.MONAI_LABEL_CORS_ORIGINS = []


def _serve(options: argparse.Namespace) -> None:
    _check(options)
    if importlib.util.find_spec("monailabel") is None:
        raise InputError(
            sys.executable, "has no MONAI Label", "run 'bash tools/monailabel/setup.sh', then start serve.sh"
        )
    app = _prepare(options)
    _close_to_pages(options.port)
    from monailabel.main import Main

    if options.host not in LOOPBACK:
        print(
            f"warning: whoever reaches {options.host}:{options.port} can read the studies and start trainings",
            file=sys.stderr,
        )
    conf = {"bundles": options.bundles.resolve(), "models": options.models, "output": app.parent / "training"}
    sys.argv = ["monailabel", "start_server", "--app", str(app), "--studies", options.studies]
    sys.argv += ["--host", options.host, "--port", str(options.port)]
    for name, value in conf.items():
        sys.argv += ["--conf", name, str(value)]
    Main().run()


def main(argv: Sequence[str] | None = None) -> int:
    """Start the server and wait for its end.

    Returns:
        The exit status.
    """
    options = _arguments(argv)
    try:
        _serve(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
