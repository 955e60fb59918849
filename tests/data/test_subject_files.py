"""Names of files: BraTS of all years, free templates, and what cannot be told."""

import pytest

from latens.data.subject_files import find_scans, role_of
from latens.data.subjects import MODALITIES
from latens.errors import ConfigError, DataError


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


LAYOUTS = {
    "brats 2020": (
        "BraTS20_Training_{n:03d}/BraTS20_Training_{n:03d}_{m}.nii",
        "t1ce t1 flair t2 seg",
    ),
    "brats 2021": ("BraTS2021_{n:05d}/BraTS2021_{n:05d}_{m}.nii.gz", "t1ce t1 flair t2 seg"),
    "brats 2023": (
        "BraTS-GLI-{n:05d}-000/BraTS-GLI-{n:05d}-000-{m}.nii.gz",
        "t1c t1n t2f t2w seg",
    ),
    "flat": ("ID{n}-{m}.nii.gz", "t1c t1n t2f t2w seg"),
    "flat, capitals": ("ID{n}_{m}.nii", "T1GD T1 FLAIR T2 SEG"),
    "own names": ("patient {n}/{m}.nii.gz", "T1_post T1_pre T2_FLAIR T2 Segmentation"),
    "skull stripped": ("TCGA-{n}/Other_{m}_bet.nii.gz", "t1c t1 fla t2 seg"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_found_by_their_names(tmp_path, layout):
    template, words = LAYOUTS[layout]
    words = words.split()
    folder = make(tmp_path, *(template.format(n=n, m=m) for n in (10, 2) for m in words))
    scans = find_scans(folder, MODALITIES)
    assert len(scans) == 2
    for scan, n in zip(scans, (2, 10), strict=True):  # natural order
        for role, word in zip((*MODALITIES, "seg"), words, strict=True):
            assert scan.files[role] == folder / template.format(n=n, m=word)
    assert len({scan.subject for scan in scans}) == 2


def test_visits_of_one_subject(tmp_path):
    names = [
        f"BraTS-GLI-00005-{v:03d}/BraTS-GLI-00005-{v:03d}-{m}.nii.gz"
        for v in (0, 1)
        for m in MODALITIES
    ]
    nested = [f"sub-7/ses-{v}/anat/sub-7_ses-{v}_{m}.nii.gz" for v in (1, 2) for m in MODALITIES]
    scans = find_scans(make(tmp_path, *names, *nested), MODALITIES)
    assert [(scan.subject, scan.name) for scan in scans] == [
        ("BraTS-GLI-00005", "BraTS-GLI-00005/000"),
        ("BraTS-GLI-00005", "BraTS-GLI-00005/001"),
        ("sub-7", "sub-7/ses-1"),
        ("sub-7", "sub-7/ses-2"),
    ]


@pytest.mark.parametrize(
    ("template", "subject", "name"),
    [
        ("train/ID{n}/ID{n}_{m}.nii", "ID{n}", "ID{n}"),
        ("train/ID{n}_{m}.nii", "ID{n}", "ID{n}"),
        (
            "train/BraTS-MET-0000{n}-001/BraTS-MET-0000{n}-001-{m}.nii.gz",
            "BraTS-MET-0000{n}",
            None,
        ),
        ("ID{n}_visit2_{m}.nii", "ID{n}", "ID{n}/visit2"),
        ("ID{n}/baseline/{m}.nii", "ID{n}", "ID{n}/baseline"),
        ("site/ID{n}/week-12/x_{m}.nii", "ID{n}", "ID{n}/week-12"),
        ("ID{n}/week-000-1/{m}.nii", "ID{n}", "ID{n}/week-000-1"),
        ("train/10000{n}_time2_{m}.nii", "10000{n}", "10000{n}/time2"),
        ("ID{n}/2019-03-01/{m}.nii", "ID{n}", "ID{n}/2019-03-01"),
        ("ID{n}_20190301_{m}.nii", "ID{n}", "ID{n}/20190301"),
    ],
)
def test_folders_around_subjects_are_no_subjects(tmp_path, template, subject, name):
    """Scans of one subject must not count as several, nor those of several as one."""
    files = (template.format(n=n, m=m) for n in (1, 2) for m in MODALITIES)
    scans = find_scans(make(tmp_path, *files), MODALITIES)
    assert [scan.subject for scan in scans] == [subject.format(n=n) for n in (1, 2)]
    if name:
        assert [scan.name for scan in scans] == [name.format(n=n) for n in (1, 2)]


def test_patterns_say_what_words_do_not(tmp_path):
    folder = make(
        tmp_path,
        *(f"A{n}/{m}.nii.gz" for n in (1, 2) for m in ("one", "two", "simple")),
        "atlas/labels.nii.gz",
    )
    patterns = {
        "t1c": "{subject}/one.nii.gz",
        "t2w": "./{subject}/tw*.nii.gz",
        "seg": "{subject}/simple.nii.gz",
    }
    scans = find_scans(folder, ("t1c", "t2w"), patterns)
    assert [scan.name for scan in scans] == ["A1", "A2"]
    assert scans[1].files == {
        "t1c": folder / "A2/one.nii.gz",
        "t2w": folder / "A2/two.nii.gz",
        "seg": folder / "A2/simple.nii.gz",
    }


def test_patterns_and_words_meet_in_one_scan(tmp_path):
    folder = make(
        tmp_path, *(f"A1/x_{m}_bet.nii.gz" for m in ("t1c", "t1", "fla", "t2")), "A1/simple.nii.gz"
    )
    (scan,) = find_scans(folder, MODALITIES, {"seg": "{subject}/simple.nii.gz"})
    assert scan.files["seg"].name == "simple.nii.gz"
    assert scan.files["t2f"].name == "x_fla_bet.nii.gz"


def test_patterns_with_visits_repeat_their_subject(tmp_path):
    folder = make(tmp_path, "P1/P1_v2_a.nii", "P1/P2_v2_a.nii", "P1/P1_v10_a.nii")
    scans = find_scans(folder, ("t1c",), {"t1c": "{subject}/{subject}_{visit}_a.nii"})
    assert [scan.name for scan in scans] == ["P1/v2", "P1/v10"]


def test_a_mask_made_from_a_modality_is_a_mask(tmp_path):
    names = ("t1", "t1c", "t2", "flair", "t1_brain_mask", "t1_seg")
    (scan,) = find_scans(make(tmp_path, *(f"A/{name}.nii.gz" for name in names)), MODALITIES)
    assert scan.files["brain"].name == "t1_brain_mask.nii.gz"
    assert scan.files["seg"].name == "t1_seg.nii.gz"
    assert scan.files["t1n"].name == "t1.nii.gz"


@pytest.mark.parametrize(
    ("stem", "roles"),
    [
        ("x_t1c", {"t1c"}),
        ("x-T1-CE", {"t1c"}),
        ("t2_flair_bet", {"t2f"}),
        ("T1_to_T2", {"t1n", "t2w"}),
        ("x_brain_mask", {"brain"}),
        ("x_T1_brain_mask", {"t1n", "brain"}),
        ("lesion_mask", {"seg"}),
        ("mask", set()),
        ("simple", set()),
        ("t1cx", set()),
    ],
)
def test_words(stem, roles):
    assert role_of(stem)[0] == roles


@pytest.mark.parametrize(
    ("names", "patterns", "error", "said"),
    [
        (
            ["A/a_t1c.nii", "A/a_t1n.nii", "A/a_t2f.nii"],
            None,
            DataError,
            "no t2w .only t1c, t1n, t2f",
        ),
        (["A/T1_to_T2.nii"], None, DataError, "t1n and t2w"),
        (["A/scan.nii"], None, DataError, "none whose name tells a modality"),
        (
            ["A/a_t1c.nii", "A/a_t1ce.nii"],
            None,
            DataError,
            "one file for t1c.*a_t1c.nii, A/a_t1ce.nii",
        ),
        (["A/a_t1c.nii"], {"seg": "{subject}/s.nii"}, DataError, r"patterns\.seg.*A/a_t1c"),
        (["A/a_t1c.nii"], {"pet": "{subject}/p.nii"}, ConfigError, "got pet"),
        (["A/a_t1c.nii"], {"t1c": "a/t1c.nii"}, ConfigError, r"patterns\.t1c"),
        (["A/a_t1c.nii"], {"t1c": "{patient}/t1c.nii"}, ConfigError, r"patterns\.t1c"),
    ],
)
def test_what_cannot_be_told_is_one_line(tmp_path, names, patterns, error, said):
    with pytest.raises(error, match=said) as caught:
        find_scans(make(tmp_path, *names), MODALITIES, patterns)
    assert "\n" not in str(caught.value)
