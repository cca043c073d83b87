"""The least a WSGI application can do: 13 bytes. `/big` is what slow readers ask for."""

BIG = b"0123456789abcdef" * (256 * 1024 // 16)


def application(environ, start_response):
    body = BIG if environ["PATH_INFO"] == "/big" else b"Hello, world\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
