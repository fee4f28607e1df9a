"""Asks MONAI Label's server within its own process, without sockets: python answers.py JOB.json OUT.

MONAI Label is not in the tests' environment; this is run by the Python of its own. JOB holds sessions, one after the
other: an app's folder, the studies, the app's settings, and requests (method, url, and of params, json, data, file what
is needed). OUT gets the answers, numbered: N.json with status and JSON, N.bin with what else came.
"""

import json
import sys
from pathlib import Path

from fastapi.testclient import TestClient
from monailabel.config import settings

settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD = False
settings.MONAI_LABEL_SESSIONS = False
settings.MONAI_ZOO_SOURCE = "local"  # never asks the Model Zoo

from monailabel.app import app  # noqa: E402


def ask(client: TestClient, request: dict, out: Path, number: int) -> None:
    arguments = {name: request[name] for name in ("params", "json", "data") if name in request}
    if "file" in request:
        path = Path(request["file"])
        arguments["files"] = {"file": (path.name, path.read_bytes())}
    answer = client.request(request["method"], request["url"], **arguments)
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    content = {"status": answer.status_code, "json": answer.json() if is_json else None}
    (out / f"{number}.json").write_text(json.dumps(content), encoding="utf-8")
    (out / f"{number}.bin").write_bytes(answer.content)


def main() -> None:
    job, out = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    number = 0
    for session in job:
        settings.MONAI_LABEL_APP_DIR = session["app"]
        settings.MONAI_LABEL_STUDIES = session["studies"]
        settings.MONAI_LABEL_APP_CONF = session["conf"]
        with TestClient(app, raise_server_exceptions=False) as client:
            for request in session["requests"]:
                ask(client, request, out, number)
                number += 1


main()
