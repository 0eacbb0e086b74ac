"""gptoss-native selftest: whether this machine's devices compute what they should."""

from __future__ import annotations

import argparse
import faulthandler
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gptoss_native import ops
from gptoss_native.cli.options import usage_error
from gptoss_native.cli.terminal import StatusLine
from gptoss_native.engine.devices import choose_device
from gptoss_native.errors import DeviceError
from gptoss_native.native import info
from gptoss_native.selftest.report import NOTE, facts, machine_report, outcome_table, summary, write_json
from gptoss_native.selftest.run import Outcome, outcomes

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("selftest", help="whether the devices here compute what they should", description=(
        "Run every kernel of every present device, and the demonstration model, against float64 references that no "
        "device takes part in. Prints what an issue needs: the machine, and each check with its error and the error "
        "that is allowed. Of several cards of one kind it takes the first; --device cuda:1 names another. Exit status "
        "0 where all passed, 1 where one did not, 2 where there is no such device."))
    parser.add_argument("--device", action="append", metavar="NAME",
                        help="only this one: cpu, cuda, cuda:1, hip, metal, ...; may be given several times")
    parser.add_argument("--quick", action="store_true",
                        help="small shapes and a short prompt only, and no times: seconds, also where kernels are "
                             "emulated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result for machines, too")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    names = devices(arguments)
    if not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__ or sys.stderr)  # a device may take the process with it: say at which check
    machine, found, progress = facts(), list[Outcome](), StatusLine()
    print(machine_report(machine), flush=True)
    for name in names:
        alike = list[Outcome]()
        try:
            for outcome in outcomes(name, quick=arguments.quick, progress=progress):
                alike.append(outcome)
                if arguments.json:  # now, because a device may take the process with it
                    write_json(arguments.json, machine, found + alike)
        finally:
            progress.clear()
        for label in dict.fromkeys(outcome.device for outcome in alike):
            print(f"\n### {label}\n\n{outcome_table(o for o in alike if o.device == label)}", flush=True)
        found += alike
    print(f"\n{NOTE}\n\n{absent(names)}{summary(found)}")
    if arguments.json:
        write_json(arguments.json, machine, found)
    return 0 if all(outcome.verdict == "ok" for outcome in found) else 1


def devices(arguments: argparse.Namespace) -> list[str]:
    """Those to be tested: by default all that are present. A usage error where one that was named is not."""
    if not arguments.device:
        return [device["name"] for device in info()["devices"] if device["built"] and device["present"]]
    for name in arguments.device:
        if name == "auto":
            usage_error(arguments, "--device takes the name of a device; leave it out to test all that are present")
        try:
            ops.Device(choose_device(name)).lab()
        except (DeviceError, ValueError) as error:
            usage_error(arguments, str(error))
    return list(dict.fromkeys(arguments.device))


def absent(tested: list[str]) -> str:
    """What was not tested; the list of the machine says why."""
    left = [device["name"] for device in info()["devices"]
            if device["name"] not in {name.partition(":")[0] for name in tested}]
    return f"Not tested: {', '.join(left)}.\n" if left else ""
