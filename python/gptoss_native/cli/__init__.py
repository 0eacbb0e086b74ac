"""The command line: gptoss-native generate | chat | tokens | info | plan | bench."""

from gptoss_native.cli.main import main

__all__ = ["main"]
