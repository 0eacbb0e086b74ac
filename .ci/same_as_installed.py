"""Compare a wheel with the installed package: same files, and same contents of all that was not compiled."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile

ONLY_INSTALLED = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")


def main(path: str) -> str | None:
    wheel = zipfile.ZipFile(path)
    shipped = {name for name in wheel.namelist() if not name.endswith(ONLY_INSTALLED)}
    installed = {}
    for file in importlib.metadata.files("gptoss-native") or []:
        name = file.as_posix()
        if not (name.startswith("../") or name.endswith(".pyc") or name.endswith(ONLY_INSTALLED)):
            installed[name] = file
    if shipped != set(installed):
        extra, absent = sorted(shipped - set(installed)), sorted(set(installed) - shipped)
        return f"{path} has {extra} that the installed package has not, and lacks {absent} that it has"
    compared = [name for name in sorted(shipped) if not name.endswith(".so")]
    different = [name for name in compared if wheel.read(name) != installed[name].read_binary()]
    if different:
        return f"different in {path} and as installed: {different}"
    print(f"{len(shipped)} files, {len(compared)} of them compared byte by byte")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
