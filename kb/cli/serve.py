"""The command that serves over HTTP."""

import gc
import json
import os
import shutil
from typing import Annotated

import typer

from kb.cli.terminal import DataDir, service, warn
from kb.errors import InvalidInput

# A stop waits this long for answers under way; what a client waits for in the background is a job, and safe.
_GRACE_SECONDS = 10
# A server process that does not answer its parent for so long hangs, and is replaced; on a machine that is
# overloaded it may just have to wait for a core.
_HANGS_SECONDS = 30


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    data_dir: DataDir = None,
) -> None:
    """Serve over HTTP; the interface is described at /docs."""
    # Loading leaves no garbage, and looking for some takes a tenth of a start; the application turns it on.
    gc.disable()
    from filelock import FileLock, Timeout

    from kb.errors import DataFolderInUse

    with service(data_dir, False) as opened:
        folder = opened.settings.data_dir
        names = [kb.name for kb in opened.knowledge_bases()]
        if not _is_loopback(host) and not opened.catalog.keys.exist():
            raise InvalidInput(
                f"{host} can be reached by others; first make a key: kb keys create NAME", param="host"
            )
        lock = FileLock(folder / "serve.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise DataFolderInUse(
                f"a server runs on {folder} already; stop it, or give another --data-dir"
            ) from None
    with lock:
        import uvicorn

        # The server processes read the same settings as this one did.
        os.environ["KB_DATA_DIR"] = str(folder)
        os.environ["KB_HOST"] = host
        name = names[0] if names else "NAME"
        shown = f"[{host}]" if ":" in host else host
        body = json.dumps({"query": "How is the plant started?", "top_k": 3})
        warn(f"data in {folder}; knowledge bases: {', '.join(names) or 'none yet'}")
        warn(
            f"curl -s http://{shown}:{port}/v1/knowledge_bases/{name}/search "
            f"-H 'content-type: application/json' -d '{body}'"
        )
        if workers > 1:
            # Where the processes add up their metrics; counters of an earlier run do not belong there.
            shutil.rmtree(folder / "metrics", ignore_errors=True)
            (folder / "metrics").mkdir()
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        uvicorn.run(
            "api.app:from_environment",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            # uvloop accepts one connection a turn: under load, new ones wait seconds, supervisors too.
            loop="asyncio",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            timeout_worker_healthcheck=_HANGS_SECONDS,
        )


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
