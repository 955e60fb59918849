"""Handwritten digits that come with scikit-learn: real images with classes, always at hand."""

import torch

from latens.data.images import ImageSet, Source, check_limit

CITATION = "Alpaydin, Kaynak (1998), Optical recognition of handwritten digits, UCI, CC BY 4.0"


class Digits(Source):
    """1,797 digits of 8×8 pixels, divided by 16, so that the range is (0, 1).

    Args:
        limit: Only the first `limit` images.
        citation: Source to cite in figures.
    """

    def __init__(self, limit: int | None = None, citation: str = CITATION) -> None:
        self.limit = check_limit(limit)
        self.citation = citation

    def load(self) -> ImageSet:
        """Read the images."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images[: self.limit]).to(torch.float32).reshape(-1, 1, 8, 8)
        return ImageSet(
            x.div(16),
            data_range=(0.0, 1.0),
            labels=tuple(int(label) for label in labels[: self.limit]),
            name="digits",
            citation=self.citation,
        )
