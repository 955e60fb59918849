"""Run folders, content hashes, atomic writes, tables, status and safe loading; no torch."""

from latens.store.atomic import (
    append_line,
    new_folder,
    write_array,
    write_bytes,
    write_json,
    write_text,
)
from latens.store.class_paths import (
    check_class_paths,
    check_override,
)
from latens.store.hashing import (
    array_fingerprint,
    canonical_json,
    content_hash,
)
from latens.store.leftovers import (
    remove_leftovers,
)
from latens.store.provenance import (
    major_versions,
    provenance,
)
from latens.store.run import (
    RunFolder,
)
from latens.store.safe import (
    npz_members,
    read_array,
    read_json,
    read_npz,
    read_yaml,
)
from latens.store.schemas import (
    BACK_TEST,
    COST,
    CURVES,
    HISTORY,
    METRIC_DEFINITIONS,
    METRICS,
    PER_IMAGE,
    PLAN,
    PLAN_BAND,
    PLAN_LAWS,
    RANK_CURVES,
    RISK_COVERAGE,
    SCALING,
    SCALING_BAND,
    SCHEMAS,
    SHIFTS,
    TESTS,
    TRUST,
    Schema,
)
from latens.store.status import (
    USABLE,
    Outcome,
    Status,
    worst_status,
)
from latens.store.tables import (
    conform,
    from_rows,
    read_csv,
    read_parquet,
    read_table,
    write_csv,
    write_parquet,
    write_table,
)

__all__ = [
    "BACK_TEST",
    "COST",
    "CURVES",
    "HISTORY",
    "METRICS",
    "METRIC_DEFINITIONS",
    "PER_IMAGE",
    "PLAN",
    "PLAN_BAND",
    "PLAN_LAWS",
    "RANK_CURVES",
    "RISK_COVERAGE",
    "SCALING",
    "SCALING_BAND",
    "SCHEMAS",
    "SHIFTS",
    "TESTS",
    "TRUST",
    "USABLE",
    "Outcome",
    "RunFolder",
    "Schema",
    "Status",
    "append_line",
    "array_fingerprint",
    "canonical_json",
    "check_class_paths",
    "check_override",
    "conform",
    "content_hash",
    "from_rows",
    "major_versions",
    "new_folder",
    "npz_members",
    "provenance",
    "read_array",
    "read_csv",
    "read_json",
    "read_npz",
    "read_parquet",
    "read_table",
    "read_yaml",
    "remove_leftovers",
    "worst_status",
    "write_array",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_parquet",
    "write_table",
    "write_text",
]
