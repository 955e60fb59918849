"""`latens run pde`: configuration, progress, and what is printed at the end."""

import sys
from argparse import Namespace

from latens.reporting.pde import pde_summary_text
from latens.studies.configure import load_layers, preset_names, resolve
from latens.studies.options import folder_of, show
from latens.studies.pde.run import run_pde
from latens.studies.pde.study import Pde


def run_pde_command(options: Namespace, overrides: list[str]) -> int:
    """Run the study from command-line options; returns the exit code."""
    names = preset_names(f"{options.preset},{options.part}")
    layers = load_layers("pde", names, options.config)
    config = resolve(Pde, layers, overrides, options.trust)
    if options.show:
        show(config)
        return 0
    out = folder_of(options, names, config)
    title = "pde: " + (", ".join(names) or "smooth")
    finished = run_pde(config, out, title, lambda line: print(line, file=sys.stderr, flush=True))
    print(pde_summary_text(finished.summary))
    print(f"report: {finished.report}")
    return 0
