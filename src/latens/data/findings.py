"""What an inspection of data has to say."""

from dataclasses import dataclass, field
from typing import Literal

from latens.errors import LatensError
from latens.types import Shape

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to know about the data.

    Attributes:
        severity: `error` (the data cannot be loaded), `warning` (results may mislead), `note`.
        file: File or folder concerned.
        message: What was found, and what to do.
    """

    severity: Severity
    file: str
    message: str


@dataclass
class FolderCheck:
    """What `check_folder` found.

    Attributes:
        kind: `paired folder`, `npy folder`, `NIfTI`, `subjects`, `idx`,
            `MedMNIST` or `unknown`.
        count: Number of readable images.
        shape: Shape of the first readable image, `(C, *spatial)`.
        data_range: Smallest and largest value of all readable images.
        findings: Errors first, then warnings, then notes.
    """

    kind: str = "unknown"
    count: int = 0
    shape: Shape | None = None
    data_range: tuple[float, float] | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings that keep the data from loading."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def summary(self) -> str:
        """One line: kind, number, shape and range."""
        if self.shape is None or self.data_range is None:
            return f"{self.kind}: no readable image"
        low, high = self.data_range
        return f"{self.kind}: {self.count} images, shape {self.shape}, values {low:g} to {high:g}"

    def add(self, severity: Severity, file: object, message: str) -> None:
        """Append a finding."""
        # A file name may hold bytes that no terminal can print.
        name, message = (
            text.encode("utf-8", "backslashreplace").decode() for text in (str(file), message)
        )
        self.findings.append(Finding(severity, name, message))

    def add_error(self, error: LatensError | OSError, file: object) -> None:
        """Append an exception as a finding."""
        if isinstance(error, LatensError):
            message = f"expected {error.expected}, got {error.got}. {error.remedy}"
            self.add("error", error.argument, message)
        else:
            self.add("error", file, f"{error}. Check the path and its permissions.")
