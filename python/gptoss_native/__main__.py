"""python -m gptoss_native is gptoss-native."""

from gptoss_native.cli import main

raise SystemExit(main())
