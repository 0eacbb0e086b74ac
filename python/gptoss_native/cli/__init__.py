"""The command line: gptoss-native generate | chat | info."""

from gptoss_native.cli.main import main

__all__ = ["main"]
