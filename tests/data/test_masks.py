import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitate.data.dataset import read_dataset
from mitate.data.masks import MaskIndex, mask_values, read_mask
from mitate.data.regions import open_masks, regions_told
from mitate.errors import DataError, ImageError


def save(path: Path, values: list[int], dtype: type = np.uint8) -> Path:
    Image.fromarray(np.array([values], dtype)).save(path)
    return path


def grey_png(path: Path, bits: int, values: list[int]) -> Path:
    """A grey PNG of so many bits a pixel, which Pillow itself does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return len(content).to_bytes(4) + checked + zlib.crc32(checked).to_bytes(4)

    packed = 0
    for value in values:
        packed = packed << bits | value
    row = b"\0" + packed.to_bytes(len(values) * bits // 8)
    header = len(values).to_bytes(4) + (1).to_bytes(4) + bytes([bits, 0, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks))
    return path


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("a.png", np.uint8), ("a.png", np.uint16), ("a.tif", np.int32), ("a.tif", np.float32)],
)
def test_index_masks(tmp_path: Path, name: str, dtype: type) -> None:
    path = save(tmp_path / name, [0, 1, 2, 2], dtype)
    assert read_mask(path).tolist() == [[False, True, True, True]]
    assert read_mask(str(path), value=2).tolist() == [[False, False, True, True]]
    assert read_mask(path, value=0).tolist() == [[True, False, False, False]]
    assert read_mask(path, value=7).tolist() == [[False] * 4]
    assert read_mask(path).dtype == bool


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_keeps_its_indices(tmp_path: Path, bits: int) -> None:
    path = grey_png(tmp_path / "few.png", bits, [0, 1, 2, 3])
    assert read_mask(path, value=2).tolist() == [[False, False, True, False]]


def test_palette_index_and_not_colour(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([9, 9, 9, 0, 0, 0, 9, 9, 9])  # index 1 is black, 0 and 2 look alike
    image.putdata([0, 1, 2])
    image.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png").tolist() == [[False, True, True]]
    assert read_mask(tmp_path / "p.png", value=2).tolist() == [[False, False, True]]


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([0, 7, 255], [False, True, False]), ([0, 255, 255], [False, True, True])],
)
def test_void_of_voc_is_no_region(tmp_path: Path, indices: list[int], expected: list[bool]) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([index for index in range(256) for _ in range(3)])
    image.putdata(indices)
    image.save(tmp_path / "v.png")
    assert read_mask(tmp_path / "v.png").tolist() == [expected]
    assert read_mask(tmp_path / "v.png", value=255).tolist() == [[i == 255 for i in indices]]


def test_bilevel(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "b.png")
    for value in (None, 1, 255):
        assert read_mask(tmp_path / "b.png", value=value).tolist() == [[False, True]]
    with pytest.raises(DataError, match="black and white"):
        read_mask(tmp_path / "b.png", value=2)


def test_black_and_white(tmp_path: Path) -> None:
    path = save(tmp_path / "bw.png", [0, 255])
    assert read_mask(path).tolist() == read_mask(path, value=255).tolist() == [[False, True]]
    with pytest.raises(DataError, match=r"bw\.png is black and white, with the values 0, 255"):
        read_mask(path, value=1)


def test_empty_mask(tmp_path: Path) -> None:
    path = save(tmp_path / "none.png", [0, 0])
    assert not read_mask(path).any()
    assert not read_mask(path, value=2).any()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_colour_masks(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (2, 1))
    image.putpixel((1, 0), (255, 255, 255))
    path = tmp_path / ("c.tif" if mode == "CMYK" else "c.png")
    image.convert(mode).save(path)
    assert read_mask(path).tolist() == read_mask(path, value=255).tolist() == [[False, True]]


def test_coloured_mask_has_no_index(tmp_path: Path) -> None:
    Image.new("RGB", (2, 1), (0, 0, 200)).save(tmp_path / "c.png")
    assert read_mask(tmp_path / "c.png").all()
    with pytest.raises(DataError, match="coloured mask"):
        read_mask(tmp_path / "c.png", value=1)


def test_what_is_clear_is_background(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    image.save(tmp_path / "clear.png")
    assert read_mask(tmp_path / "clear.png").tolist() == [[False, True]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_black_strokes_on_a_clear_ground(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 60))  # the stroke's soft edge
    path = tmp_path / "layer.png"
    image.convert(mode).save(path)
    assert read_mask(path).tolist() == read_mask(path, value=255).tolist() == [[False, True, False]]
    Image.new(mode, (3, 1), (0,) * (len(mode) - 1) + (255,)).save(path)
    assert not read_mask(path).any()  # all black, and nothing clear


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("m.jpg", {"quality": 40}),
        ("m.webp", {"quality": 40}),
        (
            "animated.webp",
            {"quality": 40, "save_all": True, "append_images": [Image.new("L", (32, 32))]},
        ),
        ("m.tif", {"compression": "jpeg", "quality": 40}),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_masks_compressed_with_loss_are_cut_in_the_middle(
    tmp_path: Path, mode: str, name: str, settings: dict[str, object]
) -> None:
    truth = np.zeros((32, 32), np.uint8)
    truth[5:20, 7:21] = 255
    path = tmp_path / name
    Image.fromarray(truth).convert(mode).save(path, **settings)
    with Image.open(path) as image:
        assert set(np.unique(np.asarray(image))) - {0, 255}
    assert (read_mask(path) == (truth > 0)).mean() > 0.99
    assert (read_mask(path, value=255) == read_mask(path)).all()
    with pytest.raises(DataError, match="black and white"):
        read_mask(path, value=2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_without_loss_keeps_its_values(tmp_path: Path, mode: str) -> None:
    truth = np.zeros((8, 8), np.uint8)
    truth[2:5], truth[5:] = 1, 2
    path = tmp_path / "m.webp"
    Image.fromarray(truth).convert(mode).save(path, lossless=True, exact=True)
    assert (read_mask(path, value=2) == (truth == 2)).all()
    assert (read_mask(path) == (truth > 0)).all()


def test_exif_is_honoured_where_present(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (4, 2), 1).save(tmp_path / "t.png", exif=exif)
    Image.new("L", (4, 2), 1).save(tmp_path / "u.png")
    assert read_mask(tmp_path / "t.png").shape == (4, 2)
    assert read_mask(tmp_path / "u.png").shape == (2, 4)


def test_unreadable_mask(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_text("text")
    with pytest.raises(ImageError, match=r"m\.png is not a picture"):
        read_mask(tmp_path / "m.png")


def files(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return [root / name for name in names]


def test_listed_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "i/1.jpg", "i/2.jpg", "m/1.png")
    (tmp_path / "x.csv").write_text("path,mask\ni/1.jpg,m/1.png\ni/2.jpg,\ni/3.jpg,m/3.png\n")
    index = MaskIndex.open(tmp_path / "x.csv")
    assert index.find(tmp_path / "i" / "1.jpg") == tmp_path / "m" / "1.png"
    assert index.find(tmp_path / "i" / "2.jpg") is None
    assert index.find(tmp_path / "i" / "3.jpg") == tmp_path / "m" / "3.png"  # told when it is read
    assert index.find(tmp_path / "other.jpg") is None
    monkeypatch.chdir(tmp_path / "i")
    assert index.find("1.jpg") == index.find("../i/1.jpg") == tmp_path / "m" / "1.png"


def test_listed_masks_through_a_link(tmp_path: Path) -> None:
    files(tmp_path / "real", "1.jpg", "1.png")
    (tmp_path / "real" / "index.csv").write_text("path,mask\n1.jpg,1.png\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    index = MaskIndex.open(tmp_path / "real")
    assert index.find(tmp_path / "link" / "1.jpg") == tmp_path / "real" / "1.png"
    index = MaskIndex.open(tmp_path / "link")
    assert index.find(tmp_path / "real" / "1.jpg") == tmp_path / "link" / "1.png"


def test_masks_of_a_dataset(table, draw) -> None:
    path = table("path,label,mask", "1.png,a,m.png", "2.png,b,")
    mask = draw(path.parent / "m.png")
    index = MaskIndex.of(read_dataset(path))
    assert index.find(path.parent / "1.png") == mask
    assert index.find(path.parent / "2.png") is None


@pytest.mark.parametrize(
    ("masks", "image", "found"),
    [
        (["1.png"], "1.jpg", "1.png"),
        (["1.png"], "train/rust/1.jpg", "1.png"),
        (["rust/1.png", "miner/1.png"], "rust/1.jpg", "rust/1.png"),
        (["rust/1.png", "miner/1.png"], "train/miner/1.jpg", "miner/1.png"),
        (["train/rust/1.png", "valid/rust/1.png"], "valid/rust/1.jpg", "valid/rust/1.png"),
        (["any/1.png"], "1.jpg", "any/1.png"),
        (["1_mask.png"], "1.jpg", "1_mask.png"),
        (["rust/1_gt.tif"], "rust/1.jpg", "rust/1_gt.tif"),
        (["1.bmp", "1.png"], "1.jpg", "1.png"),
        (["1.png", "1_mask.png"], "1.jpg", "1_mask.png"),
        (["2.png"], "1.jpg", None),
        (["1.txt", "2.png"], "1.jpg", None),
    ],
)
def test_masks_by_name(tmp_path: Path, masks: list[str], image: str, found: str | None) -> None:
    files(tmp_path / "masks", *masks)
    (picture,) = files(tmp_path / "images", image)
    expected = tmp_path / "masks" / found if found else None
    assert MaskIndex.open(tmp_path / "masks").find(picture) == expected


def test_mask_of_another_class_is_not_taken(tmp_path: Path) -> None:
    """Healthy leaves have no masks, and share their numbers with the ill ones."""
    files(tmp_path / "masks", "rust/1.png", "valid/rust/2.png")
    files(tmp_path / "images", "rust/1.jpg", "valid/rust/2.jpg")
    healthy, train = files(tmp_path / "images", "healthy/1.jpg", "train/rust/2.jpg")
    index = MaskIndex.open(tmp_path / "masks")
    assert index.find(healthy) is None
    assert index.find(train) is None


def test_masks_beside_the_pictures(tmp_path: Path) -> None:
    image, mask, other = files(tmp_path, "1.png", "1_mask.png", "2.png")
    index = MaskIndex.open(tmp_path)
    assert index.find(image) == mask
    assert index.find(other) is None


def test_several_masks_of_one_name(tmp_path: Path) -> None:
    files(tmp_path / "masks", "a/1.png", "b/1.png")
    with pytest.raises(DataError, match=r"a/1\.png or .*b/1\.png: put"):
        MaskIndex.open(tmp_path / "masks").find(tmp_path / "1.jpg")


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    (mask,) = files(tmp_path / "masks", unicodedata.normalize("NFD", "が.png"))
    assert MaskIndex.open(tmp_path / "masks").find(tmp_path / "が.jpg") == mask


def test_no_masks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone does not exist"):
        MaskIndex.open(tmp_path / "gone")
    with pytest.raises(DataError, match="holds no masks"):
        MaskIndex.open(tmp_path)
    (tmp_path / "x.csv").write_text("path,mask\na.png,\n")
    with pytest.raises(DataError, match="names no masks"):
        MaskIndex.open(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("path,label\na.png,\n")
    with pytest.raises(DataError, match="no column mask"):
        MaskIndex.open(tmp_path / "x.csv")


def test_reading_by_the_picture(tmp_path: Path) -> None:
    (picture,) = files(tmp_path / "images", "1.jpg")
    (tmp_path / "masks").mkdir()
    save(tmp_path / "masks" / "1.png", [0, 1, 2])
    index = MaskIndex.open(tmp_path / "masks")
    mask = index.read(picture, (3, 1), value=2)
    assert mask is not None
    assert mask.dtype == np.float32
    assert mask.tolist() == [[0, 0, 1]]
    assert index.read(tmp_path / "images" / "2.jpg", (3, 1)) is None
    with pytest.raises(ImageError, match="is 3x1 px and its photo 1x3"):
        index.read(picture, (1, 3))


def test_a_mask_that_cannot_be_chosen_is_one_picture_s_fault(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in "ab":
        save(tmp_path / name / "1.png", [0, 1])
    with pytest.raises(ImageError, match="put the masks into"):
        MaskIndex.open(tmp_path).read("1.jpg", (2, 1))
    assert MaskIndex.open(tmp_path).strange([Path("1.jpg")]) == []


def test_masks_of_no_picture(tmp_path: Path) -> None:
    files(tmp_path / "masks", "rust/1.png", "rust/2.png", "other.png")
    pictures = files(tmp_path / "images", "rust/1.jpg", "rust/3.jpg")
    index = MaskIndex.open(tmp_path / "masks")
    assert index.strange(pictures) == ["other.png", "rust/2.png"]
    (tmp_path / "x.csv").write_text("path,mask\nimages/rust/1.jpg,masks/rust/2.png\n")
    listed = MaskIndex.open(tmp_path / "x.csv")
    assert listed.strange(pictures) == []
    assert listed.strange(pictures[1:]) == ["masks/rust/2.png"]


def test_a_mask_of_several_photos_is_none_of_them(tmp_path: Path) -> None:
    photos = [tmp_path / "photos" / name / "0001.jpg" for name in ("blast", "hispa")]
    only = tmp_path / "photos" / "hispa" / "0002.jpg"
    for path in (*photos, only):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path)
    (tmp_path / "masks").mkdir()
    for name in ("0001.png", "0002.png"):
        Image.new("L", (4, 3), 255).save(tmp_path / "masks" / name)
    masks = MaskIndex.open(tmp_path / "masks").among([*photos, only])
    for path in photos:
        with pytest.raises(ImageError, match=r"may be the mask of .*blast.* or of .*hispa"):
            masks.read(path, (4, 3))
    assert masks.read(only, (4, 3)).all()
    assert masks.strange([*photos, only]) == []
    (tmp_path / "masks" / "blast").mkdir()
    (tmp_path / "masks" / "0001.png").rename(tmp_path / "masks" / "blast" / "0001.png")
    masks = MaskIndex.open(tmp_path / "masks").among([*photos, only])
    assert masks.read(photos[0], (4, 3)).all()
    assert masks.read(photos[1], (4, 3)) is None


def test_masks_in_a_folder_called_as_one_of_the_photos_are_of_that_one(tmp_path: Path) -> None:
    photos = files(tmp_path / "photos", "rust/0001.jpg", "blast/0001.jpg", "blast/0002.jpg")
    masks = tmp_path / "masks" / "rust"
    masks.mkdir(parents=True)
    for name in ("0001.png", "0002.png"):
        Image.new("L", (4, 3), 255).save(masks / name)
    index = MaskIndex.open(masks).among(photos)
    assert index.find(photos[0]) == masks / "0001.png"
    assert index.find(photos[1]) is index.find(photos[2]) is None
    assert index.strange(photos) == ["0002.png"]
    both = files(tmp_path / "split", "train/rust/0001.jpg", "valid/rust/0001.jpg")
    with pytest.raises(DataError, match="may be the mask of"):
        MaskIndex.open(masks).among([*photos, *both]).find(both[0])


@pytest.mark.parametrize(
    ("drawn", "value", "told"),
    [
        ([[0, 1], [2, 2]], None, True),
        ([[0, 1], [2, 2]], 2, False),
        ([[0, 255], [255, 0]], None, False),
        ([[0, 1], [1, 0]], None, False),
    ],
)
def test_regions_that_are_taken_as_one_are_told(tmp_path: Path, drawn, value, told) -> None:
    photo = tmp_path / "photos" / "a.png"
    photo.parent.mkdir()
    Image.new("RGB", (2, 2)).save(photo)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.array(drawn, np.uint8)).save(tmp_path / "masks" / "a.png")
    notices = regions_told(open_masks(tmp_path / "masks", [photo]), [photo], value)
    assert any("the values 1, 2, taken as one region" in line for line in notices) == told


@pytest.mark.parametrize(
    ("drawn", "told"),
    [
        (([0, 1, 1], [0, 255, 0]), False),  # two ways of one region
        (([0, 1, 1], [0, 2, 0]), True),  # each photo has its own lesion
        (([0, 1, 1], [0, 1, 255]), True),
        (([0, 3, 3], [0, 3, 0]), False),
    ],
)
def test_regions_of_several_masks(tmp_path: Path, drawn, told) -> None:
    photos = files(tmp_path / "photos", "a.jpg", "b.jpg")
    (tmp_path / "masks").mkdir()
    for photo, values in zip(photos, drawn, strict=True):
        save(tmp_path / "masks" / f"{photo.stem}.png", values)
    masks = open_masks(tmp_path / "masks", photos)
    assert bool(regions_told(masks, photos, None)) is told


def test_void_is_no_value_of_a_palette_mask(tmp_path: Path) -> None:
    for values, found in (([0, 1, 255], (1,)), ([0, 255, 255], (255,)), ([1, 2, 255], (1, 2))):
        picture = Image.fromarray(np.array([values], np.uint8), "L")
        picture.putpalette(list(range(256)) * 3)
        picture.save(tmp_path / "a.png")
        assert mask_values(tmp_path / "a.png") == found


def test_greys_colours_and_jpegs_have_no_values(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for name, picture in (("a.png", grey), ("b.png", grey.convert("RGB")), ("c.jpg", grey)):
        picture.save(tmp_path / name)
        assert mask_values(tmp_path / name) == ()
