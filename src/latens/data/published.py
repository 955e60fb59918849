"""Public sets of images that `latens data fetch` knows, with the checksums to verify them by.

Checksums of MedMNIST are those that its authors publish (package medmnist 3.0.2, record
10519652 of zenodo.org). Those of MNIST are of the unpacked files, since mirrors may pack them
differently.
"""

from dataclasses import dataclass

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
ZENODO = "https://zenodo.org/records/10519652/files/"


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        name: File name on disk.
        urls: Where it can be fetched, in order of preference.
        algorithm: `md5` or `sha256`.
        checksum: Hexadecimal digest of the content, unpacked where `unpacked` is set.
        unpacked: The checksum is that of what the gzip file holds.
    """

    name: str
    urls: tuple[str, ...]
    algorithm: str
    checksum: str
    unpacked: bool = False


@dataclass(frozen=True)
class Published:
    """A public set.

    Attributes:
        folder: Sub-folder in which its files are put.
        files: Its files.
        description: What it shows.
        licence: Terms of use.
        citation: Source to cite.
        usage: How a study reads it; `{path}` stands for the file or the folder.
    """

    folder: str
    files: tuple[RemoteFile, ...]
    description: str
    licence: str
    citation: str
    usage: str


_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte.gz": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}

# name: what it shows, MD5 of the file with edges of 28 and of 64 pixels
_MEDMNIST = {
    "pathmnist": (
        "colon pathology, colour, 107,180",
        "a8b06965200029087d5bd730944a56c1",
        "55aa9c1e0525abe5a6b9d8343a507616",
    ),
    "chestmnist": (
        "chest X-ray, 112,120",
        "02c8a6516a18b556561a56cbdd36c4a8",
        "9de6cd0b934ebb5b7426cfba5efbae16",
    ),
    "dermamnist": (
        "dermatoscopy, colour, 10,015",
        "0744692d530f8e62ec473284d019b0c7",
        "b70a2f5635c6199aeaa28c31d7202e1f",
    ),
    "octmnist": (
        "retinal OCT, 109,309",
        "c68d92d5b585d8d81f7112f81e2d0842",
        "e229e9440236b774d9f0dfef9d07bdaf",
    ),
    "pneumoniamnist": (
        "chest X-ray of children, 5,856",
        "28209eda62fecd6e6a2d98b1501bb15f",
        "8f4eceb4ccffa70c672198ea285246c6",
    ),
    "retinamnist": (
        "fundus camera, colour, 1,600",
        "bd4c0672f1bba3e3a89f0e4e876791e4",
        "afda852cc34dcda56f86ad2b2457dbcc",
    ),
    "breastmnist": (
        "breast ultrasound, 780",
        "750601b1f35ba3300ea97c75c52ff8f6",
        "742edef2a1fd1524b2efff4bd7ba9364",
    ),
    "bloodmnist": (
        "blood cells, colour, 17,092",
        "7053d0359d879ad8a5505303e11de1dc",
        "2b94928a2ae4916078ca51e05b6b800b",
    ),
    "tissuemnist": (
        "kidney cells, 236,386",
        "ebe78ee8b05294063de985d821c1c34b",
        "123ece2eba09d0aa5d698fda57103344",
    ),
    "organamnist": (
        "abdominal CT, axial, 58,830",
        "68e3f8846a6bd62f0c9bf841c0d9eacc",
        "2dcccc29b88e6da5a01161ef20cda288",
    ),
    "organcmnist": (
        "abdominal CT, coronal, 23,583",
        "b9ceb9546e10131b32923c5bbeaea2b1",
        "3ce34a8724ea6f548e6db4744d03b6a9",
    ),
    "organsmnist": (
        "abdominal CT, sagittal, 25,211",
        "9ab87b696fb54e2a387ebe992d6ed5f1",
        "53a6d115339d874c25e309a994ff46d3",
    ),
    "organmnist3d": (
        "abdominal CT, volumes, 1,742",
        "a0c5a1ff56af4f155c46d46fbb45a2fe",
        "58a2205adf14a9d0a189cb06dc78bf10",
    ),
    "nodulemnist3d": (
        "chest CT, volumes, 1,633",
        "8755a7e9e05a4d9ce80a24c3e7a256f3",
        "c47c5b7d457bf6332200d2ea6d64ecd8",
    ),
    "adrenalmnist3d": (
        "adrenal shapes from CT, volumes, 1,584",
        "bbd3c5a5576322bc4cdfea780653b1ce",
        "17721accfe9fb005146a47d33bc54b2f",
    ),
    "fracturemnist3d": (
        "rib fractures in CT, volumes, 1,370",
        "6aa7b0143a6b42da40027a9dda61302f",
        "f01d7e6316aedf4210da0da5b7437b42",
    ),
    "vesselmnist3d": (
        "brain vessel shapes, volumes, 1,908",
        "b41fd4f7e7e2feedddb201585ecafa1b",
        "6bb274a8846e1097066dcd64e2c4520f",
    ),
    "synapsemnist3d": (
        "electron microscopy, volumes, 1,759",
        "1235b78a3cd6280881dd7850a78eadb6",
        "43bd14ebf3af9d3dd072446fedc14d5e",
    ),
}


def _mnist() -> Published:
    return Published(
        folder="mnist",
        files=tuple(
            RemoteFile(
                name, tuple(mirror + name for mirror in MNIST_MIRRORS), "sha256", checksum, True
            )
            for name, checksum in _MNIST_SHA256.items()
        ),
        description="handwritten digits, 28 × 28, 70,000",
        licence="CC BY-SA 3.0",
        citation="LeCun, Cortes, Burges: the MNIST database of handwritten digits",
        usage="--data latens.data.IdxImages --data.images {path}",
    )


def _medmnist(name: str, edge: int) -> Published:
    shows, *checksums = _MEDMNIST[name]
    file = f"{name}.npz" if edge == 28 else f"{name}_{edge}.npz"
    source = RemoteFile(file, (f"{ZENODO}{file}",), "md5", checksums[(28, 64).index(edge)])
    return Published(
        folder="medmnist",
        files=(source,),
        description=f"{shows}, {' × '.join([str(edge)] * (3 if name.endswith('3d') else 2))}",
        licence="CC BY-NC 4.0" if name == "dermamnist" else "CC BY 4.0",
        citation="Yang et al. (2023), MedMNIST v2, doi:10.1038/s41597-022-01721-8",
        usage="--data latens.data.MedMnist --data.path {path}",
    )


PUBLISHED: dict[str, Published] = {
    "mnist": _mnist(),
    **{name: _medmnist(name, 28) for name in _MEDMNIST},
    **{f"{name}_64": _medmnist(name, 64) for name in _MEDMNIST},
}
"""Sets by the name that `latens data fetch` takes."""
