import io
import os
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from mitate.data.decoding import (
    IMAGE_SUFFIXES,
    find_images,
    image_size,
    natural_key,
    read_image,
    walk,
)
from mitate.errors import DataError, ImageError, MitateWarning

ORIENTATION = 0x0112


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def noise(height: int, width: int, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, bands), dtype=np.uint8)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.new("1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB", (5, 4)).save(path)
    assert pixels(path).shape == (4, 5, 3)


def test_rgb_is_read_exactly(tmp_path: Path) -> None:
    expected = noise(6, 7)
    Image.fromarray(expected).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), expected)


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert pixels(tmp_path / "dot.png").tolist() == [[[1, 2, 3]]]


def test_suffix_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "really.jpg", format="PNG")
    assert pixels(tmp_path / "really.jpg").shape == (2, 3, 3)


@pytest.mark.parametrize("name", ["a b.png", "葉っぱ 1.png", "ñandú'é\".png", "-x.png", "%20.png"])
def test_unusual_names(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / name)
    assert read_image(str(tmp_path / name)).size == (2, 2)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(path)
    assert pixels(path)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_dark_sixteen_bits_stay_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 5000, np.uint16)).save(tmp_path / "dark.png")
    assert pixels(tmp_path / "dark.png").max() == 19


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_twelve_bits_in_sixteen_are_told(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 4095]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"camera{suffix}")
    with pytest.warns(MitateWarning, match="uses less than 12 of them and is nearly black"):
        assert pixels(tmp_path / f"camera{suffix}")[0, :, 0].tolist() == [0, 16]
    Image.fromarray(values // 100 * 0).save(tmp_path / f"black{suffix}")
    assert pixels(tmp_path / f"black{suffix}").max() == 0


def test_the_range_that_a_tiff_tells_is_its_range(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    path = tmp_path / "camera.tif"
    Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)).save(path, tiffinfo=tags)
    assert pixels(path)[0, :, 0].tolist() == [0, 128, 255]
    tags[281] = 0
    Image.fromarray(np.zeros((1, 3), np.uint16)).save(path, tiffinfo=tags)
    assert pixels(path).max() == 0
    tags[281] = 5
    Image.fromarray(np.array([[-5, 0, 5]], np.int32)).save(path, tiffinfo=tags)
    assert pixels(path)[0, :, 0].tolist() == [0, 128, 255]


def test_big_endian_sixteen_bit_tiff(tmp_path: Path) -> None:
    header = b"MM\x00*\x00\x00\x00\x08"
    tags = [(256, 2), (257, 1), (258, 16), (259, 1), (262, 1), (273, 110), (278, 1), (279, 4)]
    entries = b"".join(
        tag.to_bytes(2) + b"\x00\x04" + b"\x00\x00\x00\x01" + number.to_bytes(4)
        for tag, number in tags
    )
    directory = len(tags).to_bytes(2) + entries + bytes(4)
    path = tmp_path / "big.tif"
    path.write_bytes(header + directory + b"\xff\xff\x80\x80")
    assert pixels(path)[0, :, 0].tolist() == [255, 128]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 32896.0, 65535.0], [0, 128, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, float("nan"), float("inf")], [0, 0, 0]),
        ([1e6, 1e6, 1e6], [0, 0, 0]),
    ],
)
def test_float_tiff(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "f.tif")
    assert pixels(tmp_path / "f.tif")[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 100, 255], [0, 100, 255]), ([0, 0, 65535], [0, 0, 255]), ([-9, 0, 9], [0, 128, 255])],
)
def test_whole_number_tiff(tmp_path: Path, values: list[int], expected: list[int]) -> None:
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "i.tif")
    assert pixels(tmp_path / "i.tif")[0, :, 0].tolist() == expected


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=95)
    assert b"Adobe" in path.read_bytes()[:64]  # Adobe's inverted inks
    red, green, blue = pixels(path)[8, 8].tolist()
    assert (red > 240, green < 15, blue < 15) == (True, True, True)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_put_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.convert(mode).save(tmp_path / "clear.png")
    assert pixels(tmp_path / "clear.png")[0].tolist() == [[255] * 3, [0] * 3]


def test_half_transparency_is_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (255, 0, 0, 128)).save(tmp_path / "half.png")
    assert pixels(tmp_path / "half.png")[0, 0].tolist() == [255, 127, 127]


@pytest.mark.parametrize("clear", [1, bytes([255, 0, 128])])
def test_palette_with_transparency(tmp_path: Path, clear: int | bytes) -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=clear)
    assert pixels(tmp_path / "p.png")[0].tolist() == [[10, 20, 30], [255] * 3]


def test_grey_and_bilevel(tmp_path: Path) -> None:
    Image.new("L", (1, 1), 77).save(tmp_path / "grey.png")
    Image.new("1", (1, 1), 1).save(tmp_path / "bilevel.png")
    assert pixels(tmp_path / "grey.png")[0, 0].tolist() == [77] * 3
    assert pixels(tmp_path / "bilevel.png")[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif", ".png"])
def test_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"film{suffix}"
    lossless = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)
    assert pixels(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, suffix: str, orientation: int) -> None:
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.new("RGB", (32, 16), "black")
    upright.paste("white", (0, 0, 8, 8))
    saved = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"turned{suffix}"
    saved.save(path, exif=exif)
    assert np.abs(pixels(path).astype(int) - np.asarray(upright)).max() < 40


def test_broken_exif_does_not_lose_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    Image.new("RGB", (9, 5)).save(path, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12")
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        assert read_image(path).size == (9, 5)


def text_called_jpg(path: Path) -> None:
    path.write_text("This is a text.")


def truncated_jpeg(path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:-400])


def cut_in_the_header(path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:30])


def truncated_png(path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:-4000])


def postscript(path: Path) -> None:
    Image.new("RGB", (4, 4)).save(path, format="EPS")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (Path.touch, "empty"),
        (Path.mkdir, "folder"),
        (lambda path: None, "does not exist"),
        (os.mkfifo, "regular file"),
        (text_called_jpg, "not a picture"),
        (postscript, "not a picture"),
        (truncated_jpeg, "cut short"),
        (cut_in_the_header, "cut short"),
        (truncated_png, "cut short"),
    ],
    ids=["empty", "folder", "missing", "pipe", "text", "eps", "cut", "cut-header", "cut-png"],
)
def test_bad_input_is_told_in_one_sentence(tmp_path: Path, make, word: str) -> None:
    path = tmp_path / "葉 1.jpg"
    make(path)
    with pytest.raises(ImageError, match=word) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert ": " in message
    assert "\n" not in message


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png may not be read"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["nul\0.png", "x" * 5000])
def test_impossible_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / name)


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header promises width x height pixels."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    png = bytearray(buffer.getvalue())
    png[16:24] = width.to_bytes(4) + height.to_bytes(4)
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4)
    return bytes(png)


@pytest.mark.parametrize("side", [11_000, 13_000, 60_000])
def test_decompression_bomb(tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=f"{side} x {side} pixels"):
        read_image(path)
    assert limit == Image.MAX_IMAGE_PIXELS
    assert filters == list(warnings.filters)


def test_limit_is_the_callers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="limit is 199"):
        read_image(tmp_path / "a.png", max_pixels=199)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's would refuse
    assert read_image(tmp_path / "a.png", max_pixels=200).size == (20, 10)


def test_threads_leave_warnings_alone(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    threads = [threading.Thread(target=read_image, args=(tmp_path / "a.png",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == list(warnings.filters)


def encoded(form: str, mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(12, 9)).convert(mode).save(buffer, form)
    return buffer.getvalue()


SAMPLES = [
    encoded(form, mode)
    for form, mode in [
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("GIF", "P"),
        ("TIFF", "RGB"),
        ("BMP", "RGB"),
        ("PPM", "RGB"),
        ("WEBP", "RGB"),
    ]
]


def reads_or_tells(path: Path) -> bool:
    try:
        return read_image(path, max_pixels=10**6).mode == "RGB"
    except ImageError as error:
        return str(path) in str(error)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_damage_gives_a_picture_or_an_image_error(tmp_path_factory, sample, data) -> None:
    damaged = bytearray(sample[: data.draw(st.integers(0, len(sample)))])
    places = st.integers(0, max(0, len(damaged) - 1))
    for place in data.draw(st.lists(places, max_size=4)) if damaged else ():
        damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(damaged))
    with warnings.catch_warnings():  # Pillow may warn of metadata; that is no failure
        warnings.simplefilter("ignore")
        assert reads_or_tells(path)


def test_find_images_in_natural_order(tmp_path: Path, draw) -> None:
    names = ["b/10.png", "b/9.JPG", "a 2.png", "a 10.png", "葉/1.png", "b/c/1.tif"]
    for name in [*names, ".hidden.png", "._a 2.png", "b/.git/1.png", "__MACOSX/1.png"]:
        draw(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a 2.png", "a 10.png", "b/9.JPG", "b/10.png", "b/c/1.tif", "葉/1.png"]


def test_find_images_takes_files_as_they_are_and_once(tmp_path: Path, draw) -> None:
    (tmp_path / "odd").touch()
    first = draw(tmp_path / "f" / "1.png")
    assert find_images([tmp_path / "odd", first, str(tmp_path / "f")]) == (tmp_path / "odd", first)
    assert find_images(first) == find_images(str(first)) == (first,)


def test_find_images_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        find_images([tmp_path / "gone.jpg"])
    with pytest.raises(DataError, match="holds no pictures"):
        find_images([tmp_path])


def test_links_in_a_circle_end(tmp_path: Path, draw) -> None:
    draw(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    found = [path.name for path in find_images([tmp_path])]
    assert found == ["1.png", "gone.png"]
    assert list(walk(tmp_path / "a", seen=[tmp_path / "a"])) == []


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"may not be read \(Permission denied\)"):
        find_images([tmp_path])


@given(st.lists(st.text(max_size=12)))
def test_natural_order_is_total(names: list[str]) -> None:
    there, back = sorted(names), sorted(names, reverse=True)
    assert sorted(there, key=natural_key) == sorted(back, key=natural_key)


@given(st.lists(st.integers(0, 10**30), unique=True))
def test_numbers_sort_by_value(numbers: list[int]) -> None:
    names = sorted((f"img{n}.png" for n in numbers), key=natural_key)
    assert names == [f"img{n}.png" for n in sorted(numbers)]


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_the_size_of_a_header_is_that_of_the_picture(tmp_path, orientation, name):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (6, 4)).save(tmp_path / name, exif=exif)
    assert image_size(tmp_path / name) == read_image(tmp_path / name).size


def test_the_size_of_what_is_no_picture_is_told(tmp_path):
    (tmp_path / "a.png").write_text("text")
    (tmp_path / "b.png").touch()
    for name, words in (("a.png", "not a picture"), ("b.png", "empty"), ("c.png", "not exist")):
        with pytest.raises(ImageError, match=words):
            image_size(tmp_path / name)
