"""Which core metrics an evaluation does not have, and why, in words."""

from collections.abc import Collection

from latens.metrics.quality import WINDOW


def left_out(measured: Collection[str]) -> list[str]:
    """Groups of core metrics that are not there, each with what they would need.

    Args:
        measured: Names of the metrics that are there.
    """
    found = []
    if "data_chi2" not in measured:
        found.append("data residual; it needs the measurements, their operator and their noise")
    if "ssim" not in measured:
        found.append(f"SSIM; it needs two or three axes of {WINDOW} pixels or more")
    if "coverage_pixel" not in measured:
        return [*found, "calibration and spread; a point estimate has no uncertainty"]
    if "coverage_region" not in measured:
        found.append(
            "calibration of region means and of whole images; it needs draws, for a spread per "
            "pixel does not say how pixels go together"
        )
    elif "coverage_principal" not in measured:
        found.append(
            "calibration of principal directions; it needs reference images, which are not "
            "evaluated"
        )
    return found
