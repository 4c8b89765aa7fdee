"""Every encoding a camera driver sends becomes the same RGB picture; what contradicts itself is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_perception.errors import MessageError, StampError
from seg_perception.messages.image import decode, decode_compressed, decode_image, image_fields, leaves_bits_unused

RED, GREEN, BLUE = 200, 100, 40
GREY = 90


def _flat(*values: int, pixels: int = 8, height: int = 6) -> np.ndarray:
    """(height, pixels / 2 * len(values)) bytes repeating `values` along each row."""
    return np.tile(np.array(values, np.uint8), (height, pixels)).reshape(height, -1)


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        ("rgb8", (RED, GREEN, BLUE)),
        ("bgr8", (BLUE, GREEN, RED)),
        ("8UC3", (BLUE, GREEN, RED)),
        ("rgba8", (RED, GREEN, BLUE, 7)),
        ("bgra8", (BLUE, GREEN, RED, 7)),
        ("8UC4", (BLUE, GREEN, RED, 7)),
        ("rgb16", (1, RED, 1, GREEN, 1, BLUE)),
        ("bgra16", (1, BLUE, 1, GREEN, 1, RED, 1, 7)),
    ],
)
def test_colour_encodings_give_the_same_red_green_blue(image_msg, encoding: str, values: tuple[int, ...]) -> None:
    image = decode_image(image_msg(_flat(*values), encoding, 8), "front")
    assert image.pixels.shape == (6, 8, 3)
    assert image.pixels.flags.c_contiguous
    assert (image.pixels == (RED, GREEN, BLUE)).all()


@pytest.mark.parametrize(("encoding", "values"), [("mono8", (GREY,)), ("8UC1", (GREY,)), ("mono16", (1, GREY))])
def test_grey_is_the_same_in_all_three_channels(image_msg, encoding: str, values: tuple[int, ...]) -> None:
    assert (decode_image(image_msg(_flat(*values), encoding, 8), "front").pixels == GREY).all()


def test_upper_byte_of_a_big_endian_sample_comes_first(image_msg) -> None:
    msg = image_msg(_flat(GREY, 1), "mono16", 8, is_bigendian=1)
    assert (decode_image(msg, "front").pixels == GREY).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_of_samples_that_use_fewer_bits_the_upper_eight_of_those_are_taken(image_msg, order: str) -> None:
    rows = np.tile(np.array([GREY * 16 + 7, 5000], f"{order}u2"), (6, 4)).view(np.uint8)
    msg = image_msg(rows, "mono16", 8, is_bigendian=order == ">")
    assert leaves_bits_unused(msg, decode_image(msg, "front"))
    image = decode_image(msg, "front", bits=12)
    assert (image.pixels[:, 0::2] == GREY).all()
    assert (image.pixels[:, 1::2] == 255).all()
    assert not leaves_bits_unused(msg, image)


def test_a_dark_picture_of_eight_bits_leaves_none_unused(image_msg) -> None:
    msg = image_msg(_flat(3), "mono8", 8)
    assert not leaves_bits_unused(msg, decode_image(msg, "front"))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_mosaic_of_one_colour_gives_that_colour(image_msg, pattern: str, bits: int) -> None:
    value = {"r": RED, "g": GREEN, "b": BLUE}
    tile = np.array([value[letter] for letter in pattern], np.uint8).reshape(2, 2)
    rows = np.tile(tile, (3, 4))
    if bits == 16:
        rows = (rows.astype("<u2") << 8).view(np.uint8)
    image = decode_image(image_msg(rows, f"bayer_{pattern}{bits}", 8), "front")
    assert (image.pixels == (RED, GREEN, BLUE)).all()


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv_follows_the_formula_of_bt_601(image_msg, encoding: str, order: str) -> None:
    y, u, v = 110, 90, 180
    samples = {"y": y, "u": u, "v": v}
    image = decode_image(image_msg(_flat(*(samples[letter] for letter in order), pixels=4), encoding, 8), "front")
    luma = 1.164 * (y - 16)
    want = (luma + 1.596 * (v - 128), luma - 0.813 * (v - 128) - 0.391 * (u - 128), luma + 2.018 * (u - 128))
    np.testing.assert_allclose(image.pixels, np.broadcast_to(want, (6, 8, 3)), atol=1.5)


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_colours_in_rows_of_their_own_are_those_of_four_pixels_each(image_msg, encoding: str) -> None:
    """As OpenCV's own YUYV has it, where two pixels share a colour."""
    rng = np.random.default_rng(0)
    luma, colour = rng.integers(16, 236, (6, 8), np.uint8), rng.integers(16, 241, (3, 4, 2), np.uint8)
    own = colour if encoding == "nv12" else colour[..., ::-1]
    rows = np.pad(np.vstack([luma, own.reshape(3, 8)]), ((0, 0), (0, 3)))
    packed = np.stack([luma, colour.repeat(2, axis=0).reshape(6, 8)], axis=-1).reshape(6, 16)
    image = decode_image(image_msg(rows, encoding, 8, height=6), "front")
    want = decode_image(image_msg(packed, "yuyv", 8), "front").pixels
    np.testing.assert_allclose(image.pixels.astype(int), want, atol=1)


def test_row_padding_is_not_part_of_the_picture(image_msg) -> None:
    rows = np.pad(_flat(RED, GREEN, BLUE), ((0, 0), (0, 5)), constant_values=255)
    assert (decode_image(image_msg(rows, "rgb8", 8), "front").pixels == (RED, GREEN, BLUE)).all()


def test_picture_that_is_rgb_already_shares_the_memory_of_the_message(image_msg) -> None:
    rows = _flat(RED, GREEN, BLUE)
    assert np.shares_memory(decode_image(image_msg(rows, "rgb8", 8, data=rows.reshape(-1)), "front").pixels, rows)
    assert not np.shares_memory(decode_image(image_msg(rows, "bgr8", 8, data=rows.reshape(-1)), "front").pixels, rows)


def test_frame_of_the_message_is_kept_unless_another_is_given(image_msg) -> None:
    msg = image_msg(_flat(GREY), "mono8", 8)
    assert decode_image(msg, "front").frame_id == "sensor"
    assert decode_image(msg, "front", "front_optical").frame_id == "front_optical"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoding": "nv24"}, "image of front: encoding is 'nv24', one of rgb8"),
        ({"encoding": "nv12"}, "48 bytes of data seen, 72 wanted for 9 rows of 8"),
        (
            {"encoding": "nv12", "height": 5, "data": bytes(56)},
            r"\(nv12\): .* cannot be converted .* even width and height",
        ),
        (
            {"encoding": "nv21", "width": 7, "data": bytes(72)},
            r"\(nv21\): .* cannot be converted .* even width and height",
        ),
        ({"width": 0}, "size is 0 x 6"),
        ({"step": 7}, "step is 7, at least 8 wanted"),
        ({"data": bytes(47)}, "47 bytes of data seen, 48 wanted"),
        ({"data": bytes(49)}, "49 bytes of data seen, 48 wanted"),
        (
            {"encoding": "yuv422", "width": 3, "step": 8},
            r"\(yuv422\): 3 x 6 pixels cannot be converted .* an even width wanted",
        ),
    ],
)
def test_contradictions_are_refused_with_the_numbers(image_msg, changes: dict, sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        decode_image(image_msg(_flat(GREY), "mono8", 8, **changes), "front")


def test_stamp_zero_is_refused_as_a_stamp(image_msg, header, compressed_msg) -> None:
    for msg in (image_msg(_flat(GREY), "mono8", 8, header=header(0)), compressed_msg(b"", stamp_ns=0)):
        with pytest.raises(StampError, match="image of front"):
            decode(msg, "front")


@pytest.mark.parametrize("encoding", ["mono8", "rgb8", "bgr8"])
def test_encoded_picture_decodes_to_itself(image_msg, encoding: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7) if encoding == "mono8" else (5, 7, 3), np.uint8)
    fields = image_fields(pixels, encoding)
    image = decode_image(image_msg(np.zeros((5, 21), np.uint8), encoding, 7, **fields), "front")
    want = {"mono8": pixels[..., None] if encoding == "mono8" else 0, "rgb8": pixels, "bgr8": pixels[..., ::-1]}
    assert (image.pixels == want[encoding]).all()


def test_only_eight_bit_pictures_of_the_right_shape_are_encoded() -> None:
    for pixels, encoding in (
        (np.zeros((2, 2, 3), np.uint8), "mono8"),
        (np.zeros((2, 2), np.uint8), "rgb8"),
        (np.zeros((2, 2), np.uint16), "mono8"),
        (np.zeros((0, 2), np.uint8), "mono8"),
        (np.zeros((2, 2), np.uint8), "rgba8"),
    ):
        with pytest.raises(MessageError, match="image to encode"):
            image_fields(pixels, encoding)


def _picture(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth colours, so that a JPEG keeps them to a few levels."""
    v, u = np.mgrid[:height, :width]
    return np.stack([u * 4, v * 6, 255 - u * 4], axis=-1).astype(np.uint8)


def _encoded(kind: str, pixels: np.ndarray, *options: int) -> bytes:
    swapped = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(f".{kind}", swapped, options)[1].tobytes()


def test_png_comes_back_exactly(compressed_msg) -> None:
    image = decode(compressed_msg(_encoded("png", _picture()), "rgb8; png compressed bgr8"), "front")
    assert (image.pixels == _picture()).all()


@pytest.mark.parametrize("format", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "png"])
def test_jpeg_is_known_by_its_bytes_whatever_the_format_says(compressed_msg, format: str) -> None:
    image = decode(compressed_msg(_encoded("jpg", _picture()), format), "front")
    assert np.abs(image.pixels.astype(int) - _picture()).mean() < 4


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_jpeg_cut_anywhere_is_refused(compressed_msg, options: tuple[int, ...]) -> None:
    data = _encoded("jpg", _picture(), *options)
    decode(compressed_msg(data), "front")
    for length in range(0, len(data), 7):
        with pytest.raises(MessageError):
            decode(compressed_msg(data[:length]), "front")
    with pytest.raises(MessageError, match="truncated"):
        decode(compressed_msg(data[:-1]), "front")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(compressed_msg) -> None:
    decode(compressed_msg(_encoded("jpg", _picture()) + bytes(100)), "front")


def test_thumbnail_within_a_jpeg_is_not_taken_for_its_end(compressed_msg) -> None:
    data, thumbnail = _encoded("jpg", _picture()), _encoded("jpg", _picture(8, 8))
    app1 = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = data[:2] + app1 + data[2:]
    assert decode(compressed_msg(data), "front").size == (60, 40)
    with pytest.raises(MessageError, match="truncated"):
        decode(compressed_msg(data[:-2]), "front")


def test_orientation_tag_does_not_turn_the_picture(compressed_msg) -> None:
    tiff = b"II*\0\x08\0\0\0" + b"\1\0" + b"\x12\1\3\0\1\0\0\0\6\0\0\0" + bytes(4)  # orientation 6: turn by 90 degrees
    exif = b"Exif\0\0" + tiff
    data = _encoded("jpg", _picture())
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (60, 40, 3)
    assert decode(compressed_msg(data), "front").size == (60, 40)


def test_png_cut_anywhere_or_changed_in_any_byte_is_refused(compressed_msg) -> None:
    data = _encoded("png", _picture())
    for length in range(0, len(data), 11):
        with pytest.raises(MessageError):
            decode(compressed_msg(data[:length], "png"), "front")
    for at in range(0, len(data), 13):
        changed = bytearray(data)
        changed[at] ^= 0x10
        with pytest.raises(MessageError, match=r"PNG is corrupt: the checksum|PNG is truncated|a JPEG or PNG wanted"):
            decode(compressed_msg(bytes(changed), "png"), "front")


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_grey_pictures_become_rgb(compressed_msg, kind: str) -> None:
    assert (decode(compressed_msg(_encoded(kind, np.full((9, 5), GREY, np.uint8))), "front").pixels == GREY).all()


def test_sixteen_bit_png_keeps_its_upper_byte(compressed_msg) -> None:
    data = _encoded("png", np.full((9, 5), GREY * 256 + 200, np.uint16))
    assert (decode(compressed_msg(data, "mono16; png compressed"), "front").pixels == GREY).all()


def test_of_a_sixteen_bit_png_that_uses_fewer_bits_the_upper_eight_of_those_are_taken(compressed_msg) -> None:
    msg = compressed_msg(_encoded("png", np.full((9, 5), GREY * 16 + 7, np.uint16)), "mono16; png compressed")
    assert leaves_bits_unused(msg, decode(msg, "front"))
    assert (decode(msg, "front", bits=12).pixels == GREY).all()


def test_compressed_mosaic_is_given_its_colours(compressed_msg) -> None:
    mosaic = np.tile(np.array([[RED, GREEN], [GREEN, BLUE]], np.uint8), (3, 4))
    image = decode_compressed(compressed_msg(_encoded("png", mosaic), "bayer_rggb8; png compressed "), "front")
    assert (image.pixels == (RED, GREEN, BLUE)).all()


def test_picture_that_claims_to_be_enormous_is_refused_before_it_is_decoded(compressed_msg) -> None:
    data = bytearray(_encoded("jpg", _picture()))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(MessageError, match="65535 x 65535, 1 to 67108864 pixels wanted"):
        decode(compressed_msg(bytes(data)), "front")


@pytest.mark.parametrize("data", [b"", b"GIF89a", bytes(1000), b"\xff\xd8\xff", b"\xff\xd8\xff\xd9" * 3])
def test_what_is_neither_jpeg_nor_png_is_refused(compressed_msg, data: bytes) -> None:
    with pytest.raises(MessageError, match=r"image of front \('jpeg'\)"):
        decode(compressed_msg(data), "front")
