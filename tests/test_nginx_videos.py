"""`mp4`: parts of videos, each with an index of its own."""

import struct

import pytest

CONF = r"""
    error_log %DIR%/error.log info;
    server {
        listen 127.0.0.1:%PORT%;
        root %DIR%;
        types { video/mp4 mp4; }
        location / { mp4; }
        location /keys/ { mp4; mp4_start_key_frame on; alias %DIR%/; }
        location /small/ { mp4; mp4_max_buffer_size 100; alias %DIR%/; }
    }
"""
SAMPLE = 4000


def box(name, *parts):
    content = b"".join(parts)
    return struct.pack(">I", len(content) + 8) + name + content


def words(*numbers):
    return struct.pack(f">{len(numbers)}I", *numbers)


def sample(number):
    return bytes([number]) * SAMPLE


def video(long_places=False):
    """Ten seconds: 100 samples, five in each chunk, every tenth a key frame; the index behind the samples."""
    kind = box(b"ftyp", b"isom0000")
    data = b"".join(b"".join(sample(chunk * 5 + n) for n in range(5)) + b"between" for chunk in range(20))
    places = [len(kind) + 8 + chunk * (5 * SAMPLE + 7) for chunk in range(20)]
    if long_places:
        table = box(b"co64", words(0, 20), b"".join(struct.pack(">Q", place) for place in places))
    else:
        table = box(b"stco", words(0, 20, *places))
    tables = box(
        b"stbl", box(b"stsd", words(0, 1), box(b"mp4v", bytes(78))), box(b"stts", words(0, 1, 100, 100)),
        box(b"stss", words(0, 10, *range(1, 100, 10))), box(b"stsc", words(0, 1, 1, 5, 1)),
        box(b"stsz", words(0, 0, 100, *[SAMPLE] * 100) if long_places else words(0, SAMPLE, 100)), table)
    media = box(b"mdia", box(b"mdhd", words(0, 0, 0, 1000, 10_000, 0)), box(b"minf", tables))
    track = box(b"trak", box(b"tkhd", words(0, 0, 0, 1, 0, 10_000), bytes(60)), media)
    index = box(b"moov", box(b"mvhd", words(0, 0, 0, 1000, 10_000), bytes(80)), track)
    return kind + box(b"mdat", data) + index


def find(content, *names):
    for name in names:
        at = 0
        while content[at + 4:at + 8] != name:
            at += struct.unpack_from(">I", content, at)[0]
            assert at < len(content), name
        content = content[at + 8:at + struct.unpack_from(">I", content, at)[0]]
    return content


def samples(content):
    """The numbers of the samples that the index of a video leads to."""
    tables = find(content, b"moov", b"trak", b"mdia", b"minf", b"stbl")
    count = struct.unpack_from(">I", find(tables, b"stsz"), 8)[0]
    chunks = find(tables, b"stsc")
    runs = [struct.unpack_from(">3I", chunks, 8 + 12 * n) for n in range(struct.unpack_from(">I", chunks, 4)[0])]
    try:
        places, form = find(tables, b"stco"), ">I"
    except AssertionError:
        places, form = find(tables, b"co64"), ">Q"
    found, size = [], struct.calcsize(form)
    for chunk in range(struct.unpack_from(">I", places, 4)[0]):
        at = struct.unpack_from(form, places, 8 + size * chunk)[0]
        many = [run[1] for run in runs if run[0] <= chunk + 1][-1]
        for n in range(many):
            data = content[at + n * SAMPLE:at + (n + 1) * SAMPLE]
            assert len(data) == SAMPLE and len(set(data)) == 1
            found.append(data[0])
    assert len(found) == count
    return found


@pytest.fixture(scope="module")
def site(serve_nginx_module):
    files = {"a.mp4": video(), "long.mp4": video(True), "text.mp4": b"no video at all", "empty.mp4": b""}
    return serve_nginx_module(CONF, files=files)


@pytest.mark.parametrize("name", ["a", "long"])
@pytest.mark.parametrize("arguments, first, last", [
    ("start=0", 0, 100), ("start=2.5", 25, 100), ("start=9.95", 99, 100), ("end=1", 0, 10),
    ("start=1.3&end=4.9", 13, 49), ("start=5&end=99", 50, 100), ("start=4.9&end=5.05", 49, 50),
    ("start=3&end=2", 30, 100),
])
def test_what_is_sent_is_a_video_of_the_part(site, name, arguments, first, last):
    answer = site.get(f"/{name}.mp4?{arguments}")
    assert (answer.status, answer.get("Content-Type")) == (200, "video/mp4")
    assert int(answer.get("Content-Length")) == len(answer.body)
    assert samples(answer.body) == list(range(first, last))
    duration = struct.unpack_from(">I", find(answer.body, b"moov", b"mvhd"), 16)[0]
    assert abs(duration - (last - first) * 100) < 100


def test_without_arguments_it_is_the_file(site):
    assert site.get("/a.mp4").body == video()
    for arguments in ("start=x", "start=-1", "start=1.2345", "start=", "end=0", "x=1"):
        assert site.get(f"/a.mp4?{arguments}").body == video(), arguments
    assert site.request("POST", "/a.mp4?start=1", body=b"x").status == 405
    assert site.get("/none.mp4?start=1").status == 404


def test_ranges_of_a_part(site):
    whole = site.get("/a.mp4?start=2").body
    part = site.get("/a.mp4?start=2", [("Range", "bytes=100-5000")])
    assert (part.status, part.body == whole[100:5001]) == (206, True)
    assert part.get("Content-Range") == f"bytes 100-5000/{len(whole)}"
    head = site.request("HEAD", "/a.mp4?start=2")
    assert (head.status, head.get("Content-Length")) == (200, str(len(whole)))


def test_a_part_that_begins_with_a_key_frame(site):
    answer = site.get("/keys/a.mp4?start=1.35&end=2")
    assert samples(answer.body) == list(range(10, 20))
    edit = find(answer.body, b"moov", b"trak", b"edts", b"elst")
    assert struct.unpack_from(">2Q", edit, 8) == (650, 350)


@pytest.mark.parametrize("target, words", [
    ("/text.mp4?start=1", "mp4"), ("/empty.mp4?start=1", "mp4"), ("/a.mp4?start=10", "start time"),
    ("/small/a.mp4?start=1", "mp4_max_buffer_size"),
])
def test_what_cannot_be_cut_is_an_error(site, target, words):
    assert site.get(target).status == 500
    assert words in (site.directory / "error.log").read_text()
