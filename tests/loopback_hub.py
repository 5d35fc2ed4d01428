"""A Hugging Face Hub on the loopback interface, kept in memory, that fails to order.

Real clients push to it and load from it:

    with loopback_hub() as hub:                        # this process: huggingface_hub, datasets, transformers, peft
        push(...)
        load_dataset("us/fairpp")
        assert list(hub.files("us/fairpp")) == ["README.md", ...]

    with LoopbackHub() as hub:                         # another process
        subprocess.run([...], env={**os.environ, **hub.environment(tmp_path)})

It answers what huggingface_hub 2.4 and datasets 5.2 ask for, by LFS: uploads by Xet are not spoken, so that clients are told
not to try (`HF_HUB_DISABLE_XET`). It is the proxy of its clients too, and one that lets nothing through: `hub.outside` lists
what they asked of any other host.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from loopback_hub_server import TOKEN, LoopbackHub, User
from loopback_hub_store import Commit, Repo

__all__ = ["TOKEN", "Commit", "LoopbackHub", "Repo", "User", "as_client", "loopback_hub"]


@contextmanager
def loopback_hub(*, token: str | None = TOKEN, **settings: Any) -> Iterator[LoopbackHub]:
    """A Hub, and this process as its client, with empty caches; both end with the block.

    The clients' waits before they try again take no time; `hub.waits` lists them in seconds. Whoever asks another host for
    anything gets nothing, and the block ends in an AssertionError.

    Args:
        token: whose client this process is, None for nobody's.
        settings: of `LoopbackHub`.
    """
    with ExitStack() as stack:
        hub = stack.enter_context(LoopbackHub(**settings))
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairpp-hub-", ignore_cleanup_errors=True)))
        stack.enter_context(as_client(hub, home, token=token))
        yield hub
        assert not hub.outside, f"asked of other hosts: {hub.outside}"


@contextmanager
def as_client(hub: LoopbackHub, home: Path, *, token: str | None = TOKEN) -> Iterator[None]:
    """This process as a client of the Hub, with all caches under `home`.

    What reads the environment when it is used finds it; what read it when it was imported is patched.
    """
    import datasets
    import huggingface_hub
    import huggingface_hub.utils._http as hub_http
    from huggingface_hub import constants

    environment = hub.environment(home, token)
    hub_cache = str(home / "hub")
    patches: list[tuple[Any, dict[str, Any]]] = [
        (
            constants,
            {
                "ENDPOINT": hub.url,
                "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
                "HF_HUB_OFFLINE": False,
                "HF_HUB_DISABLE_XET": True,
                "HF_HUB_CACHE": hub_cache,
                "HUGGINGFACE_HUB_CACHE": hub_cache,
                "HF_TOKEN_PATH": str(home / "token"),
                "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
                "AGENT_HARNESSES_PATH": str(home / "agents.json"),
            },
        ),
        (
            datasets.config,
            {
                "HF_ENDPOINT": hub.url,
                "HUB_DATASETS_URL": hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}",
                "HF_HUB_OFFLINE": False,
                "HF_DATASETS_OFFLINE": False,
                "HF_UPDATE_DOWNLOAD_COUNTS": False,
                "HF_DATASETS_CACHE": home / "datasets",
                "DOWNLOADED_DATASETS_PATH": home / "datasets" / "downloads",
                "EXTRACTED_DATASETS_PATH": home / "datasets" / "downloads" / "extracted",
                "HF_MODULES_CACHE": home / "modules",
            },
        ),
        # The clients made at import, whose methods are functions of the package.
        (huggingface_hub.hf_api.api, {"endpoint": hub.url}),
        (hub_http, {"time": SimpleNamespace(sleep=hub.waits.append)}),
    ]
    with ExitStack() as stack:
        # Clients made before know neither the endpoint nor the proxy, and those made here are of no use later.
        for forget in (hub_http.close_session, huggingface_hub.HfFileSystem.clear_instance_cache, _forget_transformers):
            forget()
            stack.callback(forget)
        stack.enter_context(mock.patch.dict(os.environ, environment))
        for where, values in patches:
            stack.enter_context(mock.patch.multiple(where, **values))
        yield


def _forget_transformers() -> None:
    """The client of transformers, made when it is first needed, goes on with the endpoint of that moment."""
    module: Any = sys.modules.get("transformers.utils.hub")
    if module is not None:
        module._hf_api = None
