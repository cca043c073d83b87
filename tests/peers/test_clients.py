"""Real clients and load generators against Monoceros: curl, h2load or wrk, slowhttptest; short and bounded."""

import hashlib
import os
import re
import shutil
import subprocess
import time

import pytest
from support.server import which

APP = """
import hashlib

def application(environ, start_response):
    body = environ["wsgi.input"].read(1 << 30)
    text = hashlib.sha256(body).hexdigest().encode()
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(text)))])
    return [text]
"""


def run(*command, timeout=40, data=None):
    return subprocess.run([str(part) for part in command], capture_output=True, timeout=timeout, input=data)


@pytest.fixture
def server(serve):
    return serve(APP, "-w", "2", "--static", "/s/=files", "--client-max-body-size", "64m",
                 files={"files/page.html": "<p>page</p>" * 500, "files/big.bin": os.urandom(2_000_000)})


def test_curl_upload_with_expect(server, tmp_path):
    curl, url = which("curl"), f"http://127.0.0.1:{server.port}"
    body = os.urandom(5_000_000)
    (tmp_path / "body").write_bytes(body)
    digest = hashlib.sha256(body).hexdigest().encode()
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["-0"]):
        out = run(curl, "-sS", "--fail", *extra, "--data-binary", f"@{tmp_path / 'body'}", url + "/")
        assert out.stdout == digest, (extra, out.stderr)


def test_curl_compressed_ranges_and_reuse(server):
    curl, url = which("curl"), f"http://127.0.0.1:{server.port}"
    page = run(curl, "-sS", "--fail", "--compressed", url + "/s/page.html")
    assert page.stdout == b"<p>page</p>" * 500
    whole = (server.directory / "files/big.bin").read_bytes()
    assert run(curl, "-sS", "--fail", "-r", "100-199", url + "/s/big.bin").stdout == whole[100:200]
    discard = ["-o", "/dev/null", "-o", "/dev/null"]
    resumed = run(curl, "-sSv", "--fail", url + "/s/page.html", url + "/s/page.html", *discard)
    assert re.search(rb"(?i)re-using (existing )?(http )?connection", resumed.stderr)


@pytest.mark.parametrize("target", ["/", "/s/page.html"])
def test_load_without_errors(server, target):
    url = f"http://127.0.0.1:{server.port}{target}"
    if shutil.which("wrk"):
        out = run("wrk", "-t1", "-c64", "-d3s", url).stdout.decode()
        assert int(re.search(r"(\d+) requests in", out)[1]) > 100
        assert "Non-2xx" not in out and "Socket errors" not in out, out
    else:
        out = run(which("h2load"), "--h1", "-t1", "-c64", "-n10000", url).stdout.decode()
        assert "10000 succeeded, 0 failed, 0 errored" in out, out


@pytest.mark.skipif(not shutil.which("h2load"), reason="another load generator; wrk has been there already")
def test_pipelined_load(server):
    out = run("h2load", "--h1", "-t1", "-c16", "-m16", "-n5000", f"http://127.0.0.1:{server.port}/").stdout.decode()
    assert "5000 succeeded, 0 failed, 0 errored" in out, out


@pytest.mark.skipif(not shutil.which("slowhttptest"), reason="test_slow_clients.py does the same without it")
@pytest.mark.parametrize("attack", [["-H"], ["-B"], ["-X", "-n", "1"]])
@pytest.mark.parametrize("target", ["/", "/s/big.bin"])
def test_slowhttptest_denies_nobody(server, attack, target):
    # Not judged by the tool's own probe: in a slow read that is slow itself.
    url = f"http://127.0.0.1:{server.port}{target}"
    tool = subprocess.Popen(
        ["slowhttptest", *attack, "-c", "500", "-r", "250", "-i", "2", "-l", "6", "-p", "2", "-u", url],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        times = []
        while tool.poll() is None:
            began = time.monotonic()
            assert server.get(timeout=5).status == 200
            times.append(time.monotonic() - began)
            time.sleep(0.005)  # leave some of the machine to the tool
    finally:
        tool.kill()
        tool.wait()
    assert len(times) > 100
    assert sorted(times)[len(times) * 99 // 100] < 0.25
