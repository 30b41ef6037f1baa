"""Every bad photo by name, as the program meets it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import tiny

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)


def encoded(image, kind="PNG", **options):
    with io.BytesIO() as buffer:
        image.save(buffer, kind, **options)
        return buffer.getvalue()


def bomb():
    """A PNG that says it is 60,000 pixels a side."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(PIXELS), "JPEG", exif=exif)


def transparent():
    palette = Image.fromarray(PIXELS).quantize(8)
    return encoded(palette, transparency=0)


def animated():
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


JPEG = encoded(Image.fromarray(PIXELS), "JPEG")
ODD = {
    "1x1.png": lambda: encoded(Image.new("RGB", (1, 1), "red")),
    "narrow.png": lambda: encoded(Image.new("RGB", (1, 900), "red")),
    "16 bit.png": lambda: encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)),
    "cmyk.jpg": lambda: encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"),
    "palette.png": transparent,
    "grey.jpg": lambda: encoded(Image.fromarray(PIXELS[..., 0]), "JPEG"),
    "rotated.jpg": rotated,
    "animated.gif": animated,
    "名 前 & 'quotes'.jpg": lambda: JPEG,
    "$math$.jpg": lambda: JPEG,
    "png inside.jpg": lambda: encoded(Image.fromarray(PIXELS)),
}
BAD = {
    "text.jpg": (lambda: b"this is no picture", "not a picture in a format"),
    "truncated.jpg": (lambda: JPEG[: len(JPEG) // 2], "damaged or cut short"),
    "bomb.png": (bomb, "the limit is 120,000,000 pixels"),
    "empty.jpg": (lambda: b"", "is empty"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_photos_are_explained(mitate, ref, tmp_path, name):
    (tmp_path / name).write_bytes(ODD[name]())
    done = mitate("explain", ref, tmp_path / name, "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert done.json["photos"][0]["image"] == name
    assert (tmp_path / "out" / "sheet-001.png").is_file()


@pytest.mark.parametrize("company", [False, True], ids=["alone", "among good ones"])
@pytest.mark.parametrize("name", BAD)
def test_bad_photos_are_named_and_skipped(mitate, ref, tmp_path, name, company):
    make, said = BAD[name]
    bad = tmp_path / name
    bad.write_bytes(make())
    good = tmp_path / "good.png"
    tiny.photo().save(good)
    sources = (good, bad) if company else (bad,)
    done = mitate("explain", ref, *sources, "-o", tmp_path / "out", "--json")
    assert done.code == (3 if company else 1)
    assert len(done.json["photos"]) == company
    (line,) = [line for line in done.err.splitlines() if line.startswith("skipped: ")]
    assert str(bad) in line
    assert said in line
    assert "Traceback" not in done.err


def test_a_missing_photo(mitate, ref, tmp_path):
    done = mitate("explain", ref, tmp_path / "missing.jpg", "-o", tmp_path / "out")
    assert done.code == 1
    assert done.err == f"skipped: {tmp_path}/missing.jpg does not exist: check the path.\n"
    assert done.out == ""


def test_a_folder_without_photos(mitate, ref, tmp_path):
    (tmp_path / "empty").mkdir()
    done = mitate("explain", ref, tmp_path / "empty", "-o", tmp_path / "out")
    assert done.code == 1
    assert "holds no pictures" in done.error


def test_a_table_that_is_none(mitate, ref, tmp_path):
    (tmp_path / "a.csv").write_text("name\nx\n")
    done = mitate("explain", ref, tmp_path / "a.csv", "-o", tmp_path / "out")
    assert done.code == 1
    assert "no column path" in done.error


class TestMasks:
    @pytest.fixture
    def explain(self, mitate, ref, photos, tmp_path):
        def explain(*more):
            for path in photos.glob("*/*.png"):
                mask = tmp_path / "masks" / path.parent.name / path.name
                if not mask.exists():
                    mask.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("L", (40, 30), 1).save(mask)
            words = ("--masks", tmp_path / "masks", *more)
            return mitate("explain", ref, photos, "-o", tmp_path / "out", *words)

        return explain

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"\x89PNG\r\n\x1a\n half", "damaged"),
            (b"text", "not a picture"),
            (encoded(Image.new("L", (30, 40))), "is 30x40 px and its photo 40x30"),
            (encoded(Image.new("RGB", (40, 30), "red")), "coloured mask"),
        ],
        ids=["truncated", "text", "another size", "coloured"],
    )
    def test_a_bad_mask_is_named(self, explain, tmp_path, content, said):
        bad = tmp_path / "masks" / "blast" / "0000.png"
        bad.parent.mkdir(parents=True)
        bad.write_bytes(content)
        done = explain("--mask-value", 1)
        assert done.code == 3
        (line,) = [line for line in done.err.splitlines() if line.startswith("skipped: ")]
        assert str(bad) in line
        assert said in line
        assert "3 photos; the masks cover 1.000" in done.out

    def test_a_folder_without_masks(self, mitate, ref, photos, tmp_path):
        (tmp_path / "empty").mkdir()
        words = ("--masks", tmp_path / "empty")
        done = mitate("explain", ref, photos, "-o", tmp_path / "out", *words)
        assert done.code == 1
        assert "holds no masks" in done.error

    def test_masks_that_hold_nothing(self, explain):
        done = explain("--mask-value", 7)
        assert done.code == 0
        assert "Share of" not in done.out
        assert "note: no photo has a mask with anything in it" in done.err
