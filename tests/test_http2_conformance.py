"""What RFC 9113 and RFC 7541 say that a server does with right and wrong frames, one case each.

The cases are those that h2spec has in its parts generic, http2 and hpack, in its order and under its numbers, which the
names of tests, or of their parameters, begin with (`CASES`); they are written from the texts of the RFCs. A connection that has to be ended is ended with GOAWAY and the error code that the RFC names.
"""

import re
import struct

import pytest
from support.http2 import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FLAG,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Closed,
    Http2,
    frame,
    settings,
)

CONF = """
    server {
        listen 127.0.0.1:%PORT%;
        http2 on;
        root %DIR%/root;
        error_page 405 =200 /index.html;
        location /hold { limit_rate 1; alias %DIR%/root/index.html; }
    }
"""
PAGE = b"<p>a page of some bytes</p>\n" * 40


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files={"root/index.html": PAGE})


@pytest.fixture
def client(server):
    with Http2(server.address) as client:
        yield client


@pytest.fixture
def raw(server):
    with Http2(server.address, preface=False) as client:
        yield client


def u32(number):
    return struct.pack(">I", number)


def whole(client, stream=1, flags=END_STREAM, **fields):
    return frame(HEADERS, END_HEADERS | flags, stream, client.block(client.fields(**fields)))


def works(client, stream=101):
    """The connection is as good as new."""
    client.ping()
    assert client.get(stream).status == 200


def connection_error(client, *codes):
    """The connection ends, for one of these reasons."""
    assert client.until(lambda f: f.kind == GOAWAY).code in codes
    client.closed()


def stream_error(client, stream, *codes):
    """The stream ends for one of these reasons; a server may take the connection with it (RFC 9113 §5.4.2)."""
    end = client.until(lambda f: f.kind == GOAWAY or (f.kind == RST_STREAM and f.stream == stream))
    assert end.code in codes
    if end.kind == RST_STREAM:
        works(client)


# generic 1: starting


def test_generic_1_1_preface(raw):
    raw.send(PREFACE + settings())
    assert raw.next().kind == SETTINGS
    raw.until(lambda f: f.kind == SETTINGS and f.flags & ACK)


# generic 2: streams


def test_generic_2_1_priority_on_an_idle_stream(client):
    client.send(frame(PRIORITY, 0, 1, u32(0) + b"\xff"))
    works(client)


def test_generic_2_2_window_update_on_a_half_closed_stream(client):
    client.send(whole(client))
    client.window(1, 1)
    assert client.answer(1).status == 200
    works(client)


def test_generic_2_3_priority_on_a_half_closed_stream(client):
    client.send(whole(client) + frame(PRIORITY, 0, 1, u32(0) + b"\xff"))
    assert client.answer(1).status == 200


def test_generic_2_4_reset_of_a_half_closed_stream(client):
    client.send(whole(client))
    client.reset(1)
    works(client)


def test_generic_2_5_priority_on_a_closed_stream(client):
    assert client.get(1).status == 200
    client.send(frame(PRIORITY, 0, 1, u32(0) + b"\xff"))
    works(client)


# generic 3: frames


def test_generic_3_1_1_data(client):
    client.send(whole(client, flags=0, method="POST") + frame(DATA, END_STREAM, 1, b"test"))
    assert client.answer(1).status == 200


def test_generic_3_1_2_data_in_pieces(client):
    client.send(whole(client, flags=0, method="POST"))
    client.send(frame(DATA, 0, 1, b"test") + frame(DATA, END_STREAM, 1, b"test"))
    assert client.answer(1).status == 200


def test_generic_3_1_3_data_with_padding(client):
    client.send(whole(client, flags=0, method="POST"))
    client.send(frame(DATA, END_STREAM | PADDED, 1, b"\x06test" + bytes(6)))
    assert client.answer(1).status == 200


def test_generic_3_2_1_headers(client):
    client.send(whole(client))
    assert client.answer(1).body == PAGE


def test_generic_3_2_2_headers_with_padding(client):
    block = client.block(client.fields())
    client.send(frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\x06" + block + bytes(6)))
    assert client.answer(1).body == PAGE


def test_generic_3_2_3_headers_with_priority(client):
    block = client.block(client.fields())
    client.send(frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY_FLAG, 1, u32(0) + b"\xff" + block))
    assert client.answer(1).body == PAGE


@pytest.mark.parametrize("payload", [
    u32(0) + b"\x00", u32(0) + b"\xff", u32(3) + b"\xff", u32(3 | 1 << 31) + b"\xff",
], ids=["3_3_1_least", "3_3_2_most", "3_3_3_dependency", "3_3_4_exclusive"])
def test_generic_priority(client, payload):
    client.send(frame(PRIORITY, 0, 1, payload))
    works(client)


def test_generic_3_3_5_priority_of_an_idle_stream_then_a_lower_one(client):
    client.send(frame(PRIORITY, 0, 7, u32(0) + b"\xff"))
    assert client.get(5).status == 200


def test_generic_3_4_1_reset(client):
    client.send(whole(client, flags=0))
    client.reset(1)
    works(client)


def test_generic_3_5_1_settings(client):
    client.send(settings(x3=100))
    client.until(lambda f: f.kind == SETTINGS and f.flags & ACK)
    works(client)


def test_generic_3_7_1_ping(client):
    client.ping()


def test_generic_3_8_1_goaway(client):
    client.send(whole(client) + frame(GOAWAY, 0, 0, u32(0) + u32(0)))
    assert client.answer(1).status == 200
    client.closed()


@pytest.mark.parametrize("stream", [0, 1], ids=["3_9_1_connection", "3_9_2_stream"])
def test_generic_window_update(client, stream):
    client.send(whole(client))
    client.window(stream, 1)
    assert client.answer(1).status == 200


@pytest.mark.parametrize("pieces", [2, 3], ids=["3_10_1_one", "3_10_2_several"])
def test_generic_continuation(client, pieces):
    block = client.block(client.fields())
    parts = [block[n::1][:1] for n in range(pieces - 1)]
    parts.append(block[pieces - 1:])
    client.send(frame(HEADERS, END_STREAM, 1, parts[0]))
    for part in parts[1:-1]:
        client.send(frame(CONTINUATION, 0, 1, part))
    client.send(frame(CONTINUATION, END_HEADERS, 1, parts[-1]))
    assert client.answer(1).status == 200


# generic 4: messages


@pytest.mark.parametrize("method", ["GET", "HEAD"], ids=["4_1_get", "4_2_head"])
def test_generic_get_and_head(client, method):
    client.request(1, "/", method)
    answer = client.answer(1)
    assert (answer.status, answer.body) == (200, PAGE if method == "GET" else b"")


def test_generic_4_3_post(client):
    client.request(1, "/", "POST", end=False)
    client.data(1, b"test", end=True)
    assert client.answer(1).status == 200


def test_generic_4_4_post_with_trailers(client):
    client.request(1, "/", "POST", ("trailer", "x-test"), end=False)
    client.data(1, b"test")
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block([("x-test", "ok")])))
    assert client.answer(1).status == 200


# generic 5: compression

GET = b"\x82\x86\x84"


# "hyh2" and "user-agent", each as it is and in Huffman's code (RFC 7541 §5.2).
VALUE, CODED_VALUE = b"\x04hyh2", b"\x83\x9f\xd4\xe2"
NAME, CODED_NAME = b"\x0auser-agent", b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93"


@pytest.mark.parametrize("block", [
    GET + b"\x41\x04test",
    GET + b"\x41\x04test" + b"\x7a" + VALUE,
    GET + b"\x41\x04test" + b"\x7a" + CODED_VALUE,
    GET + b"\x41\x04test" + b"\x40" + NAME + VALUE,
    GET + b"\x41\x04test" + b"\x40" + CODED_NAME + CODED_VALUE,
    GET + b"\x41\x04test" + b"\x0f\x2b" + VALUE,
    GET + b"\x41\x04test" + b"\x0f\x2b" + CODED_VALUE,
    GET + b"\x41\x04test" + b"\x00" + NAME + VALUE,
    GET + b"\x41\x04test" + b"\x00" + CODED_NAME + CODED_VALUE,
    GET + b"\x41\x04test" + b"\x1f\x2b" + VALUE,
    GET + b"\x41\x04test" + b"\x1f\x2b" + CODED_VALUE,
    GET + b"\x41\x04test" + b"\x10" + NAME + VALUE,
    GET + b"\x41\x04test" + b"\x10" + CODED_NAME + CODED_VALUE,
    b"\x20" + GET + b"\x41\x04test",
    b"\x20\x3f\xe1\x1f" + GET + b"\x41\x04test",
    GET + b"\x41\x89\x49\x50\x95\xcb\xe4\x74\xd7\x41\x7f",
    GET + b"\x41\x04test" + b"\x40\x04x-ab\x04hyh2" + b"\xbe",
    GET + b"\x41\x04test" + b"\x40\x04x-ab\x04hyh2" + b"\x7e\x03new",
    GET + b"\x41\x04test" + b"\x40\x04x-ab\x04hyh2" + b"\x0f\x2f\x03new",
    GET + b"\x41\x04test" + b"\x40\x04x-ab\x04hyh2" + b"\x1f\x2f\x03new",
], ids=["5_1_indexed", "5_2_incremental_indexed_name", "5_3_incremental_indexed_name_coded", "5_4_incremental_new_name",
        "5_5_incremental_new_name_coded", "5_6_without_indexing_indexed_name", "5_7_without_indexing_indexed_name_coded",
        "5_8_without_indexing_new_name", "5_9_without_indexing_new_name_coded", "5_10_never_indexed_indexed_name",
        "5_11_never_indexed_indexed_name_coded", "5_12_never_indexed_new_name", "5_13_never_indexed_new_name_coded",
        "5_14_size_update", "5_15_size_updates", "huffman", "indexed_dynamic", "dynamic_name",
        "dynamic_name_without_indexing", "dynamic_name_never_indexed"])
def test_generic_compression(client, block):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert client.answer(1).status == 200
    works(client)


# http2 3: starting


def test_3_5_1_preface(raw):
    raw.send(PREFACE + settings())
    assert raw.next().kind == SETTINGS


def test_3_5_2_wrong_preface(raw):
    raw.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    with pytest.raises(Closed):
        while raw._exactly(1):
            pass


def test_3_4_the_preface_ends_with_settings(raw):
    raw.send(PREFACE + frame(PING, 0, 0, bytes(8)))
    connection_error(raw, PROTOCOL_ERROR)


# http2 4: frames


def test_4_1_1_unknown_type(client):
    client.send(frame(0x16, 0, 0, bytes(8)))
    works(client)


def test_4_1_2_undefined_flag(client):
    client.send(frame(PING, 0x16, 0, bytes(8)))
    assert client.until(lambda f: f.kind == PING and f.flags & ACK)


def test_4_1_3_reserved_bit(client):
    client.send(frame(PING, 0, 1 << 31, bytes(8)))
    assert client.until(lambda f: f.kind == PING and f.flags & ACK)


def test_4_2_1_data_of_the_largest_size(client):
    client.request(1, "/", "POST", end=False)
    client.data(1, bytes(1 << 14), end=True)
    assert client.answer(1).status == 200


def test_4_2_2_data_beyond_the_largest_size(client):
    client.request(1, "/", "POST", end=False)
    client.data(1, bytes((1 << 14) + 1), end=True)
    connection_error(client, FRAME_SIZE_ERROR)


def test_4_2_3_headers_beyond_the_largest_size(client):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1,
                      client.block(client.fields()) + b"\x00\x01a\x7f\x82\x7f" + bytes((1 << 14) + 1)))
    connection_error(client, FRAME_SIZE_ERROR)


def test_4_3_1_block_that_cannot_be_decoded(client):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x04test"))
    connection_error(client, COMPRESSION_ERROR)


def test_4_3_2_priority_within_a_block(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    client.send(frame(PRIORITY, 0, 1, u32(0) + b"\xff"))
    connection_error(client, PROTOCOL_ERROR)


def test_4_3_3_another_stream_within_a_block(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, client.block(client.fields())))
    connection_error(client, PROTOCOL_ERROR)


# http2 5: streams


@pytest.mark.parametrize(("kind", "payload"), [
    (DATA, b"test"), (RST_STREAM, u32(8)), (WINDOW_UPDATE, u32(100)), (CONTINUATION, GET),
], ids=["5_1_1_data", "5_1_2_rst_stream", "5_1_3_window_update", "5_1_4_continuation"])
def test_idle_stream(client, kind, payload):
    client.send(frame(kind, END_HEADERS if kind == CONTINUATION else 0, 1, payload))
    connection_error(client, PROTOCOL_ERROR)


@pytest.mark.parametrize(("kind", "codes"), [
    (DATA, [STREAM_CLOSED]), (HEADERS, [STREAM_CLOSED]), (CONTINUATION, [STREAM_CLOSED, PROTOCOL_ERROR]),
], ids=["5_1_5_data", "5_1_6_headers", "5_1_7_continuation"])
def test_half_closed_stream(client, kind, codes):
    client.request(1, "/hold")
    client.send(frame(kind, END_HEADERS | END_STREAM, 1, b"test" if kind == DATA else GET))
    stream_error(client, 1, *codes)


@pytest.mark.parametrize(("kind", "codes"), [
    (DATA, [STREAM_CLOSED]), (HEADERS, [STREAM_CLOSED]), (CONTINUATION, [STREAM_CLOSED, PROTOCOL_ERROR]),
], ids=["5_1_8_data", "5_1_9_headers", "5_1_10_continuation"])
def test_stream_closed_by_a_reset(client, kind, codes):
    client.request(1, "/hold", end=False)
    client.reset(1)
    client.send(frame(kind, END_HEADERS | END_STREAM, 1, b"test" if kind == DATA else GET))
    stream_error(client, 1, *codes)


@pytest.mark.parametrize(("kind", "codes"), [
    (DATA, [STREAM_CLOSED]), (HEADERS, [STREAM_CLOSED, PROTOCOL_ERROR]), (CONTINUATION, [STREAM_CLOSED, PROTOCOL_ERROR]),
], ids=["5_1_11_data", "5_1_12_headers", "5_1_13_continuation"])
def test_closed_stream(client, kind, codes):
    assert client.get(1).status == 200
    client.send(frame(kind, END_HEADERS | END_STREAM, 1, b"test" if kind == DATA else GET))
    stream_error(client, 1, *codes)


def test_5_1_1_1_even_stream(client):
    client.send(whole(client, 2))
    connection_error(client, PROTOCOL_ERROR)


def test_5_1_1_2_stream_with_a_smaller_number(client):
    client.send(whole(client, 5))
    client.send(whole(client, 3))
    connection_error(client, PROTOCOL_ERROR)


def test_5_1_2_1_more_streams_than_allowed(client):
    client.ping()
    most = client.settings[MAX_CONCURRENT_STREAMS]
    for stream in range(1, 2 * most + 2, 2):
        client.request(stream, "/hold")
    stream = 2 * most + 1
    end = client.until(lambda f: f.kind == GOAWAY or (f.kind == RST_STREAM and f.stream == stream))
    assert end.code in (PROTOCOL_ERROR, REFUSED_STREAM)


def test_5_3_1_1_headers_that_depend_on_themselves(client):
    block = client.block(client.fields())
    client.send(frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY_FLAG, 1, u32(1) + b"\xff" + block))
    stream_error(client, 1, PROTOCOL_ERROR)


def test_5_3_1_2_priority_that_depends_on_itself(client):
    client.send(whole(client, path="/hold") + frame(PRIORITY, 0, 1, u32(1) + b"\xff"))
    stream_error(client, 1, PROTOCOL_ERROR)


def test_5_4_1_1_the_connection_ends_after_an_error(client):
    client.send(frame(PING, 0, 3, bytes(8)))
    client.closed()


def test_5_4_1_2_goaway_before_the_end(client):
    assert client.get(1).status == 200
    client.send(frame(PING, 0, 3, bytes(8)))
    goaway = client.until(lambda f: f.kind == GOAWAY)
    assert (goaway.code, goaway.last_stream) == (PROTOCOL_ERROR, 1)


def test_5_5_1_unknown_extension(client):
    client.send(frame(0xFF, 0, 0, b"unknown"))
    works(client)


def test_5_5_2_unknown_extension_within_a_block(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    client.send(frame(0xFF, 0, 0, b"unknown"))
    connection_error(client, PROTOCOL_ERROR)


# http2 6: definitions of frames


def test_6_1_1_data_on_no_stream(client):
    client.send(frame(DATA, END_STREAM, 0, b"test"))
    connection_error(client, PROTOCOL_ERROR)


def test_6_1_2_data_on_a_stream_that_is_not_open(client):
    client.request(1, "/hold")
    client.send(frame(DATA, END_STREAM, 1, b"test"))
    stream_error(client, 1, STREAM_CLOSED)


def test_6_1_3_data_with_too_much_padding(client):
    client.request(1, "/", "POST", end=False)
    client.send(frame(DATA, END_STREAM | PADDED, 1, b"\x06test"))
    connection_error(client, PROTOCOL_ERROR)


def test_6_2_1_headers_then_priority(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    client.send(frame(PRIORITY, 0, 1, u32(0) + b"\xff"))
    connection_error(client, PROTOCOL_ERROR)


def test_6_2_2_headers_then_headers_of_another_stream(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    client.send(whole(client, 3))
    connection_error(client, PROTOCOL_ERROR)


def test_6_2_3_headers_on_no_stream(client):
    client.send(whole(client, 0))
    connection_error(client, PROTOCOL_ERROR)


def test_6_2_4_headers_with_too_much_padding(client):
    block = client.block(client.fields())
    client.send(frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, bytes([len(block) + 1]) + block))
    connection_error(client, PROTOCOL_ERROR)


def test_6_3_1_priority_on_no_stream(client):
    client.send(frame(PRIORITY, 0, 0, u32(0) + b"\xff"))
    connection_error(client, PROTOCOL_ERROR)


def test_6_3_2_priority_of_another_length(client):
    client.send(whole(client, path="/hold") + frame(PRIORITY, 0, 1, u32(0)))
    stream_error(client, 1, FRAME_SIZE_ERROR)


def test_6_4_1_reset_of_no_stream(client):
    client.send(frame(RST_STREAM, 0, 0, u32(8)))
    connection_error(client, PROTOCOL_ERROR)


def test_6_4_2_reset_of_an_idle_stream(client):
    client.send(frame(RST_STREAM, 0, 1, u32(8)))
    connection_error(client, PROTOCOL_ERROR)


def test_6_4_3_reset_of_another_length(client):
    client.send(whole(client, path="/hold") + frame(RST_STREAM, 0, 1, bytes(3)))
    connection_error(client, FRAME_SIZE_ERROR)


def test_6_5_1_acknowledgement_with_a_payload(client):
    client.send(frame(SETTINGS, ACK, 0, bytes(6)))
    connection_error(client, FRAME_SIZE_ERROR)


def test_6_5_2_settings_on_a_stream(client):
    client.send(frame(SETTINGS, 0, 1, bytes(6)))
    connection_error(client, PROTOCOL_ERROR)


def test_6_5_3_settings_of_another_length(client):
    client.send(frame(SETTINGS, 0, 0, bytes(3)))
    connection_error(client, FRAME_SIZE_ERROR)


@pytest.mark.parametrize(("values", "code"), [
    ({"x2": 2}, PROTOCOL_ERROR), ({"x4": 1 << 31}, FLOW_CONTROL_ERROR),
    ({"x5": (1 << 14) - 1}, PROTOCOL_ERROR), ({"x5": 1 << 24}, PROTOCOL_ERROR),
], ids=["6_5_2_1_push", "6_5_2_2_window", "6_5_2_3_small_frame", "6_5_2_4_large_frame"])
def test_wrong_settings(client, values, code):
    client.send(settings(**values))
    connection_error(client, code)


def test_6_5_2_5_unknown_setting(client):
    client.send(settings(x255=1))
    works(client)


def test_6_5_3_1_the_last_value_counts(client):
    client.windows = False
    client.send(frame(SETTINGS, payload=struct.pack(">HIHI", 4, 100, 4, 1)))
    client.request(1)
    assert len(client.until(lambda f: f.kind == DATA).payload) == 1
    client.ping()
    assert not [f for f in client.kept if f.kind == DATA]


def test_6_5_3_2_settings_are_acknowledged(client):
    client.until(lambda f: f.kind == SETTINGS and f.flags & ACK)
    client.send(settings())
    client.until(lambda f: f.kind == SETTINGS and f.flags & ACK)


def test_6_7_1_ping(client):
    client.ping()


def test_6_7_2_ping_that_is_an_answer(client):
    client.send(frame(PING, ACK, 0, b"nobody's"))
    client.ping()
    assert not [f for f in client.kept if f.kind == PING]


def test_6_7_3_ping_on_a_stream(client):
    client.send(frame(PING, 0, 1, bytes(8)))
    connection_error(client, PROTOCOL_ERROR)


def test_6_7_4_ping_of_another_length(client):
    client.send(frame(PING, 0, 0, bytes(6)))
    connection_error(client, FRAME_SIZE_ERROR)


def test_6_8_1_goaway_on_a_stream(client):
    client.send(frame(GOAWAY, 0, 1, u32(0) + u32(0)))
    connection_error(client, PROTOCOL_ERROR)


def test_6_9_1_window_update_of_nothing(client):
    client.window(0, 0)
    connection_error(client, PROTOCOL_ERROR)


def test_6_9_2_window_update_of_nothing_on_a_stream(client):
    client.request(1, "/hold")
    client.window(1, 0)
    stream_error(client, 1, PROTOCOL_ERROR)


def test_6_9_3_window_update_of_another_length(client):
    client.send(frame(WINDOW_UPDATE, 0, 0, bytes(3)))
    connection_error(client, FRAME_SIZE_ERROR)


def test_6_9_1_1_a_window_of_one_byte(client):
    client.windows = False
    client.send(settings(x4=1))
    client.request(1)
    assert len(client.until(lambda f: f.kind == DATA).payload) == 1


def test_6_9_1_2_a_window_beyond_the_largest(client):
    client.window(0, (1 << 31) - 1)
    client.window(0, (1 << 31) - 1)
    connection_error(client, FLOW_CONTROL_ERROR)


def test_6_9_1_3_a_window_of_a_stream_beyond_the_largest(client):
    client.request(1, "/hold")
    client.window(1, (1 << 31) - 1)
    client.window(1, (1 << 31) - 1)
    stream_error(client, 1, FLOW_CONTROL_ERROR)


def test_6_9_2_1_windows_change_with_the_setting(client):
    client.windows = False
    client.send(settings(x4=0))
    client.request(1)
    client.ping()
    client.send(settings(x4=1))
    assert len(client.until(lambda f: f.kind == DATA).payload) == 1


def test_6_9_2_2_a_window_below_nothing(client):
    client.windows = False
    client.send(settings(x4=3))
    client.request(1)
    assert len(client.until(lambda f: f.kind == DATA).payload) == 3
    client.send(settings(x4=2))
    client.window(1, 2)
    assert len(client.until(lambda f: f.kind == DATA).payload) == 1


def test_6_9_2_3_a_setting_beyond_the_largest_window(client):
    client.send(settings(x4=1 << 31))
    connection_error(client, FLOW_CONTROL_ERROR)


def test_6_10_1_continuations(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    client.send(frame(CONTINUATION, 0, 1, client.block([("x-a", "1")])))
    client.send(frame(CONTINUATION, END_HEADERS, 1, client.block([("x-b", "2")])))
    assert client.answer(1).status == 200


def test_6_10_2_continuation_then_another_frame(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    client.send(frame(CONTINUATION, 0, 1, client.block([("x-a", "1")])))
    client.send(frame(DATA, END_STREAM, 1, b"test"))
    connection_error(client, PROTOCOL_ERROR)


def test_6_10_3_continuation_on_no_stream(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    client.send(frame(CONTINUATION, END_HEADERS, 0, client.block([("x-a", "1")])))
    connection_error(client, PROTOCOL_ERROR)


def test_6_10_4_continuation_after_the_end_of_headers(client):
    client.send(whole(client, path="/hold"))
    client.send(frame(CONTINUATION, END_HEADERS, 1, client.block([("x-a", "1")])))
    connection_error(client, PROTOCOL_ERROR)


def test_6_10_5_continuation_after_the_last(client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields("/hold"))))
    client.send(frame(CONTINUATION, END_HEADERS, 1, client.block([("x-a", "1")])))
    client.send(frame(CONTINUATION, END_HEADERS, 1, client.block([("x-b", "2")])))
    connection_error(client, PROTOCOL_ERROR)


def test_6_10_6_continuation_after_data(client):
    client.request(1, "/hold", "POST", end=False)
    client.data(1, b"test")
    client.send(frame(CONTINUATION, END_HEADERS, 1, client.block([("x-a", "1")])))
    connection_error(client, PROTOCOL_ERROR)


# http2 7: error codes


def test_7_1_goaway_with_an_unknown_code(client):
    client.send(whole(client) + frame(GOAWAY, 0, 0, u32(0) + u32(0xFF)))
    assert client.answer(1).status == 200
    client.closed()


def test_7_2_reset_with_an_unknown_code(client):
    client.request(1, "/hold")
    client.reset(1, 0xFF)
    works(client)


# http2 8: messages


def test_8_1_1_second_headers_that_do_not_end_the_stream(client):
    client.request(1, "/hold", "POST", end=False)
    client.send(frame(HEADERS, END_HEADERS, 1, client.block([("x-test", "ok")])))
    stream_error(client, 1, PROTOCOL_ERROR)


def refused(client, fields):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(fields)))
    stream_error(client, 1, PROTOCOL_ERROR)


def test_8_1_2_1_capitals(client):
    refused(client, [*client.fields(), ("X-TEST", "ok")])


def test_8_1_2_1_1_unknown_pseudo_field(client):
    refused(client, [*client.fields(), (":test", "ok")])


def test_8_1_2_1_2_pseudo_field_of_a_response(client):
    refused(client, [*client.fields(), (":status", "200")])


def test_8_1_2_1_3_pseudo_field_in_trailers(client):
    client.request(1, "/hold", "POST", end=False)
    client.data(1, b"test")
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block([(":method", "POST")])))
    stream_error(client, 1, PROTOCOL_ERROR)


@pytest.mark.parametrize("parts", [1, 2, 7], ids=["whole", "two_frames", "seven_frames"])
@pytest.mark.parametrize("field", [(":path", "/other"), (":test", "x"), ("X-Test", "x"), ("x-test", "a\nb")],
                         ids=lambda field: field[0])
def test_malformed_trailers(client, field, parts):
    """The decompressor of the codec does not tell, so they are looked at before it has them."""
    client.request(1, "/hold", "POST", end=False)
    client.data(1, b"test")
    block = client.block([("x-first", "1"), field])
    size = -(-len(block) // parts)
    pieces = [block[at:at + size] for at in range(0, len(block), size)]
    for at, piece in enumerate(pieces):
        flags = END_HEADERS if at == len(pieces) - 1 else 0
        if at == 0:
            client.send(frame(HEADERS, END_STREAM | PADDED | flags, 1, b"\x03" + piece + b"\0\0\0"))
        else:
            client.send(frame(CONTINUATION, flags, 1, piece))
    stream_error(client, 1, PROTOCOL_ERROR)


@pytest.mark.parametrize("field", [("x-test", "a\nb"), ("x-test", "\x7f"), ("x test", "a"), (":path", "/\udcff")],
                         ids=["newline", "delete", "name", "not_utf8"])
def test_fields_that_cannot_be(client, field):
    fields = [(n, v.encode("utf-8", "surrogateescape")) for n, v in [*client.fields(), field] if n != field[0]]
    fields.insert(0, (field[0], field[1].encode("utf-8", "surrogateescape")))
    refused(client, fields)


def test_8_1_2_1_4_pseudo_field_after_others(client):
    fields = client.fields()
    refused(client, [*fields[:2], ("x-test", "ok"), *fields[2:]])


@pytest.mark.parametrize("field", [
    ("connection", "keep-alive"), ("keep-alive", "5"), ("proxy-connection", "keep-alive"),
    ("transfer-encoding", "chunked"), ("upgrade", "h2c"),
], ids=lambda field: field[0])
def test_8_1_2_2_1_fields_of_connections(client, field):
    refused(client, [*client.fields(), field])


def test_8_1_2_2_2_te_that_is_not_trailers(client):
    refused(client, [*client.fields(), ("te", "trailers, deflate;q=0.5")])


def test_8_1_2_3_1_empty_path(client):
    refused(client, client.fields(path=""))


@pytest.mark.parametrize("missing", [0, 1, 2], ids=["8_1_2_3_2_method", "8_1_2_3_3_scheme", "8_1_2_3_4_path"])
def test_missing_pseudo_field(client, missing):
    fields = client.fields()
    refused(client, fields[:missing] + fields[missing + 1:])


@pytest.mark.parametrize("twice", [0, 1, 2], ids=["8_1_2_3_5_method", "8_1_2_3_6_scheme", "8_1_2_3_7_path"])
def test_repeated_pseudo_field(client, twice):
    fields = client.fields()
    refused(client, [*fields, fields[twice]])


@pytest.mark.parametrize("parts", [[b"test"], [b"te", b"st"]], ids=["8_1_2_6_1_one_frame", "8_1_2_6_2_two_frames"])
@pytest.mark.parametrize("length", ["1", "5"])
def test_content_length_that_is_not_the_body_s(client, parts, length):
    client.request(1, "/hold", "POST", ("content-length", length), end=False)
    try:
        for part in parts:
            client.data(1, part, end=part is parts[-1])
        stream_error(client, 1, PROTOCOL_ERROR)
    except OSError:
        pytest.fail("the connection was closed")


def test_8_2_1_push_promise(client):
    client.send(frame(PUSH_PROMISE, END_HEADERS, 1, u32(3) + client.block(client.fields())))
    connection_error(client, PROTOCOL_ERROR)


# hpack


@pytest.mark.parametrize("end", [
    b"\xc6", b"\x7f\x07\x04test", b"\x20", b"\x00\x04name\x84\x49\x50\x9f\xff",
    b"\x00\x04name\x83\x49\x50\x90", b"\x00\x04name\x85\x49\x7f\xff\xff\xff", b"\x80", b"\x3f\xff\xff\xff\xff\x07",
], ids=["2_3_3_1_index_of_nothing", "2_3_3_2_name_of_nothing", "4_2_1_size_update_at_the_end",
        "5_2_1_padding_of_more_than_7_bits", "5_2_2_padding_of_zeros", "5_2_3_end_of_string",
        "6_1_1_index_0", "6_3_1_table_beyond_the_setting"])
def test_hpack(client, end):
    block = GET + b"\x41\x04test"
    if end[0] == 0x3F:
        block, end = end + block, b""
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block + end))
    connection_error(client, COMPRESSION_ERROR)


# How many cases each section of h2spec has, by its numbers: of the older RFC 7540 in http2, of RFC 7541 in hpack.
CASES = {
    "generic": {"1": 1, "2": 5, "3_1": 3, "3_2": 3, "3_3": 5, "3_4": 1, "3_5": 1, "3_7": 1, "3_8": 1, "3_9": 2, "3_10": 2,
                "4": 4, "5": 15},
    "http2": {"3_5": 2, "4_1": 3, "4_2": 3, "4_3": 3, "5_1": 13, "5_1_1": 2, "5_1_2": 1, "5_3_1": 2, "5_4_1": 2, "5_5": 2,
              "6_1": 3, "6_2": 4, "6_3": 2, "6_4": 3, "6_5": 3, "6_5_2": 5, "6_5_3": 2, "6_7": 4, "6_8": 1, "6_9": 3,
              "6_9_1": 3, "6_9_2": 3, "6_10": 6, "7": 2, "8_1": 1, "8_1_2": 1, "8_1_2_1": 4, "8_1_2_2": 2, "8_1_2_3": 7,
              "8_1_2_6": 2, "8_2": 1},
    "hpack": {"2_3_3": 2, "4_2": 1, "5_2": 3, "6_1": 1, "6_3": 1},
}


def cases_with_a_test():
    """Part and number of all tests here."""
    for name, function in globals().items():
        if not name.startswith("test_"):
            continue
        part = next((part for part in ("generic", "hpack") if name.startswith(f"test_{part}")), "http2")
        marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
        lists = [mark.kwargs["ids"] for mark in marks if isinstance(mark.kwargs.get("ids"), list)]
        ids = [given for given in sum(lists, []) if isinstance(given, str)]
        for text in [name.removeprefix("test_").removeprefix("generic_"), *ids]:
            if number := re.match(r"\d+(_\d+)+(?=_)", text):
                yield part, number[0]


def test_each_case_has_its_test():
    expected = {(part, f"{section}_{n}") for part, sections in CASES.items() for section, count in sections.items()
                for n in range(1, count + 1)}
    assert not expected - set(cases_with_a_test())
    assert len(expected) == 147
