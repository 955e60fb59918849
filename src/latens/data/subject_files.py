"""Which file of a folder is which modality of which scan.

Names are found in two ways. *Patterns* state where a file lies: `{subject}/{subject}_t1c.nii.gz`
or, with several visits, `{subject}/{visit}/*_flair.nii`. Without a pattern the *words* of the file
names decide (`t1ce` is t1c, `fla` is t2f), and a scan is a folder that has each modality once, or
else the part of the name before the modality: `BraTS-GLI-00005-001-t1n.nii.gz`, `ID7_FLAIR.nii`.
Its subject is the name of that folder, or that part, less what tells a visit (`ses-1`, `week-12`,
a date).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latens.data.folder import natural_key
from latens.data.groups import shorten
from latens.data.nifti import list_volumes, relative_name
from latens.data.volumes import volume_stem
from latens.errors import ConfigError, DataError

SEGMENTATION, BRAIN = "seg", "brain"
"""Roles of files beside the modalities."""

WORDS = {
    "t1c": ("t1c", "t1ce", "t1gd", "t1post", "t1-ce", "t1-gd", "t1-c", "t1-post"),
    "t1n": ("t1n", "t1", "t1w", "t1pre", "t1-pre"),
    "t2f": ("t2f", "flair", "fla", "t2flair", "t2-flair", "t2-fla"),
    "t2w": ("t2w", "t2"),
    SEGMENTATION: ("seg", "segmentation", "lesion", "lesion-mask", "tumor-mask", "tumour-mask"),
    BRAIN: ("brainmask", "brain-mask", "bet-mask"),
}
"""How the words of a file name tell its role; two words with a hyphen stand side by side."""

_WHEN = (
    r"(?:ses|session|visit|v|tp|time|timepoint|day|week|month)[-_ ]?\d+(?:-\d+)?"
    r"|(?:19|20)\d\d[-_]?[01]\d[-_]?[0-3]\d"  # a date
    r"|baseline|follow-?up[-_ ]?\d*|pre|post"
)
_VISITS = (
    re.compile(r"(?P<subject>BraTS-[A-Za-z]+-\d+)-(?P<visit>\d{3})"),  # BraTS since 2023
    re.compile(rf"(?P<subject>.+?)[-_/ ](?P<visit>{_WHEN})", re.IGNORECASE),
)
"""How the name of a scan, or the two folders around it, tells subject and visit."""
_FIELDS = ("subject", "visit")


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan.

    Attributes:
        name: Name of the scan; `subject`, or `subject/visit`.
        subject: Whom it shows.
        files: Path of each role: modalities, `seg`, `brain`.
    """

    name: str
    subject: str
    files: Mapping[str, Path] = field(default_factory=dict)


def find_scans(
    folder: Path, modalities: Sequence[str], patterns: Mapping[str, str] | None = None
) -> list[ScanFiles]:
    """The scans of a folder in natural order, each with all modalities.

    Args:
        folder: Where to look, sub-folders included.
        modalities: Roles that every scan must have.
        patterns: Role → where its files lie, relative to the folder, with `{subject}`, perhaps
            `{visit}`, and `*` for what may differ. Roles without one are found by their words.

    Raises:
        ConfigError: If a pattern cannot be used.
        DataError: If nothing is found, a modality is missing, or a name tells two things.
    """
    files = list_volumes(folder, "**/*.nii*")
    patterns = dict(patterns or {})
    expected = {*modalities, SEGMENTATION, BRAIN}
    unknown = [role for role in patterns if role not in expected]
    if unknown:
        raise ConfigError(
            "patterns",
            f"keys among {', '.join(sorted(expected))}",
            unknown[0],
            "Name the modality in `modalities`, or correct the key.",
        )
    found: dict[tuple[str, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for role, pattern in patterns.items():
        matcher = _matcher(role, pattern)
        matches = [(file, matcher.fullmatch(relative_name(folder, file))) for file in files]
        if not any(match for _, match in matches):
            raise DataError(
                f"patterns.{role}",
                f"a file in {folder} that it matches",
                pattern,
                f"Files there: {shorten([relative_name(folder, file) for file in files])}.",
            )
        for file, match in matches:
            if match:
                parts = match.groupdict()
                found[parts["subject"], parts.get("visit") or ""][role].append(file)
    left = [role for role in (*modalities, SEGMENTATION, BRAIN) if role not in patterns]
    for (subject, visit), role, file in _by_words(folder, files, left):
        found[subject, visit][role].append(file)
    return _complete(folder, found, modalities)


def _matcher(role: str, pattern: str) -> re.Pattern[str]:
    """Regular expression of a pattern; a repeated field must repeat its text."""
    parts = re.split(r"(\{\w*\}|\*)", pattern)
    seen: set[str] = set()
    expression = ""
    for part in parts:
        name = part[1:-1]
        if part == "*":
            expression += "[^/]*"
        elif part.startswith("{") and name in _FIELDS:
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        elif "{" in part or "}" in part:
            seen.clear()
            break
        else:
            expression += re.escape(part)
    if "subject" not in seen:
        raise ConfigError(
            f"patterns.{role}",
            "a path with {subject}, perhaps {visit} and *",
            pattern,
            "Write for example {subject}/{subject}_t1c.nii.gz.",
        )
    return re.compile(expression.removeprefix(re.escape("./")))


def role_of(stem: str) -> tuple[set[str], int]:
    """Roles that the words of a name tell, and where in the name the first of them begins."""
    words = [(match.group().lower(), match.start()) for match in re.finditer(r"[^-_. ]+", stem)]
    roles: set[str] = set()
    start, k = len(stem), 0
    while k < len(words):
        pair = "-".join(word for word, _ in words[k : k + 2]) if k + 1 < len(words) else ""
        for candidate, taken in ((pair, 2), (words[k][0], 1)):
            role = next((role for role, known in WORDS.items() if candidate in known), None)
            if role:
                start = min(start, words[k][1])
                roles.add(role)
                k += taken
                break
        else:
            k += 1
    return roles, start


def _by_words(
    folder: Path, files: Iterable[Path], roles: Sequence[str]
) -> Iterable[tuple[tuple[str, str], str, Path]]:
    """(subject, visit), role and file of what is found by the words of its name."""
    told: dict[Path, list[tuple[str, int, Path]]] = defaultdict(list)
    for file in files:
        found, start = role_of(volume_stem(file.name))
        found = found & {SEGMENTATION, BRAIN} or found  # `t1_brain_mask` is a mask
        wanted = found & set(roles)
        if wanted and len(found) > 1:
            raise DataError(
                str(file),
                "a name that tells one modality",
                f"{' and '.join(sorted(found))}",
                "State `patterns`, for example t1c: {subject}/*_t1c.nii.gz.",
            )
        if wanted:
            told[file.parent].append((found.pop(), start, file))
    for parent, entries in told.items():
        names = [role for role, _, _ in entries]
        whole = parent != folder and len(set(names)) == len(names)
        for role, start, file in entries:
            if whole:
                yield _split(parent.relative_to(folder).parts), role, file
            else:
                stem = volume_stem(file.name)
                name = stem[:start].rstrip("-_. ") or stem
                yield _split((*parent.relative_to(folder).parts, name)), role, file


def _split(parts: Sequence[str]) -> tuple[str, str]:
    """Subject and visit of a scan from the folders, or the name, that it lies under."""
    names = [part for part in parts if part.lower() != "anat"] or list(parts)
    for told in (names[-1], "/".join(names[-2:])):
        for visit in _VISITS:
            match = visit.fullmatch(told)
            if match:
                return match["subject"], match["visit"]
    return names[-1], ""


def _complete(
    folder: Path,
    found: Mapping[tuple[str, str], Mapping[str, list[Path]]],
    modalities: Sequence[str],
) -> list[ScanFiles]:
    """Scans with one file for every modality, or the error that says what is wrong."""
    scans = []
    for (subject, visit), roles in found.items():
        name = f"{subject}/{visit}" if visit else subject
        for role, files in roles.items():
            if len(files) > 1:
                raise DataError(
                    str(folder / subject),
                    f"one file for {role} of `{name}`",
                    shorten([relative_name(folder, file) for file in files]),
                    f"State `patterns`, for example {role}: "
                    f"{_suggestion(folder, files[0], subject)}",
                )
        missing = [role for role in modalities if role not in roles]
        if len(missing) == len(modalities):
            continue  # a mask or an atlas beside the subjects
        if missing:
            has = ", ".join(sorted(roles))
            raise DataError(
                str(folder / subject),
                f"all of {', '.join(modalities)} for `{name}`",
                f"no {', '.join(missing)} (only {has})",
                "Add the file, state `patterns` if it has another name, or leave it out of "
                "`modalities`.",
            )
        scans.append(ScanFiles(name, subject, {role: files[0] for role, files in roles.items()}))
    if not scans:
        raise DataError(
            str(folder),
            f"files for {', '.join(modalities)}",
            "none whose name tells a modality",
            "State `patterns`, for example t1c: {subject}/{subject}_t1c.nii.gz.",
        )
    return sorted(scans, key=lambda scan: natural_key(scan.name))


def _suggestion(folder: Path, file: Path, subject: str) -> str:
    return relative_name(folder, file).replace(subject, "{subject}") + "."
