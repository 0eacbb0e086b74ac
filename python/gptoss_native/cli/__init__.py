"""The command line: gptoss-native generate | chat | info | plan."""

from gptoss_native.cli.main import main

__all__ = ["main"]
