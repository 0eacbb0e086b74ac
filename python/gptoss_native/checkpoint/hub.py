"""Which folder is meant by the name of a model: a path, an id of the Hugging Face hub, or none."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

from gptoss_native.errors import CheckpointError

HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?", re.ASCII)
"""owner/name, and perhaps @ and a branch, tag or commit."""

WANTED = ["config.json", "generation_config.json", "tokenizer.json", "*.safetensors", "*.safetensors.index.json"]
NOT_WANTED = ["original/*", "metal/*"]
"""Folders that hold the same weights again."""


def find_model(model: str | os.PathLike[str] | None, *, download: bool = True) -> Path:
    """The folder of a checkpoint; None is the demonstration model, which is part of the package.

    model: a folder, or where there is none of that name an id such as "openai/gpt-oss-20b" or "owner/name@revision",
    which the package huggingface_hub looks up in its cache and, with `download`, fetches; it reads HF_HOME, HF_TOKEN
    and HF_HUB_OFFLINE. Raises CheckpointError, which says what is missing and the command that brings it.
    """
    if model is None:
        return _demonstration()
    path = Path(model)
    match = HUB_ID.fullmatch(model) if isinstance(model, str) else None
    if match is None or path.exists():
        return path
    try:
        import huggingface_hub  # an extra; and importing the package should not pay for it
    except ImportError:
        raise CheckpointError(
            f"{model}: there is no such folder here. To take it for a model of the Hugging Face hub, the package "
            "huggingface_hub is needed: pip install 'gptoss-native[hub]'") from None
    name, revision = match.groups()
    try:
        return Path(huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=WANTED, ignore_patterns=NOT_WANTED, local_files_only=not download))
    except Exception as error:  # of many classes, some of them the HTTP client's
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        remedy = "check the id, the network and HF_HUB_OFFLINE" if download else "it is downloaded by `load`"
        raise CheckpointError(
            f"{model}: there is no such folder here, and the Hugging Face hub and its cache do not give it ({reason}); "
            f"{remedy}, or fetch it with: hf download {name}") from None


def _demonstration() -> Path:
    name = "gptoss_native.demo"
    try:
        demo = importlib.import_module(name)  # here: only who asks for it pays for it
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise CheckpointError(
            "no model was named, and this build has no demonstration model; name a folder, or an id of the Hugging "
            "Face hub such as openai/gpt-oss-20b") from None
    return Path(demo.path())
