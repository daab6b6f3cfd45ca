"""Speed, measured as ratios between things run in turn: `scripts/benchmark.py CASE --help`.

Each case prints a table, and writes JSON with `--json FILE`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))  # the plain implementations

import torch  # noqa: E402
from benchmarks import codec, data, recipe, recipes, step  # noqa: E402

CASES = {"step": step, "codec": codec, "data": data, "recipe": recipe, "recipes": recipes}


def get_parser() -> argparse.ArgumentParser:
    """With a command for each case."""
    parser = argparse.ArgumentParser(prog="benchmark.py", description=__doc__)
    cases = parser.add_subparsers(dest="case", required=True, metavar="CASE")
    for name, module in CASES.items():
        doc = (module.__doc__ or "").strip()
        case = cases.add_parser(
            name,
            help=doc.splitlines()[0],
            description=doc,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        case.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
        module.add_arguments(case)
    return parser


def describe_machine() -> dict[str, str]:
    """Return what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    (cpu, *_) = [*(line.split(": ")[1] for line in cpuinfo if line.startswith("model name")), "?"]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    return {"cpu": cpu, "cores": str(os.cpu_count()), "gpu": gpu, **versions}


def main(argv: list[str] | None = None) -> int:
    """Run the case that the command line names."""
    args = get_parser().parse_args(argv)
    rows = CASES[args.case].run(args)
    result = {"case": args.case, "machine": describe_machine(), "rows": rows}
    print("\n" + " | ".join(f"{key} {value}" for key, value in result["machine"].items()))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
