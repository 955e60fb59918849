"""Studies: configuration, units, sweep engine, tables, and solvers from a finished run."""
