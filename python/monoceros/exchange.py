"""What hooks see of a request: gunicorn's `req` and `resp`, made from the environ and from what was sent."""

from .facade import Facade

CONNECTION = (
    "the edge has the client's connection, and workers see whole requests; "
    "`keepalive` and `keepalive_requests` say how long it stays"
)


class Request(Facade):
    """What pre_request and post_request see of a request."""

    ABSENT = {
        CONNECTION: "force_close should_close req_number unreader parse parse_headers parse_request_line read_into "
        "read_line get_data set_body_reader max_buffer_headers",
    }

    def __init__(self, cfg, environ):
        self.cfg = cfg
        self.method = environ["REQUEST_METHOD"]
        self.uri = environ["RAW_URI"]
        self.path = self.uri.partition("?")[0]
        self.query = environ["QUERY_STRING"]
        self.fragment = ""
        self.scheme = environ["wsgi.url_scheme"]
        major, _, minor = environ["SERVER_PROTOCOL"].partition("/")[2].partition(".")
        self.version = (int(major), int(minor or 0))
        address, port = environ["REMOTE_ADDR"], environ["REMOTE_PORT"]
        # gunicorn has an empty text for a client on a Unix socket.
        self.remote_addr = self.peer_addr = (address, int(port)) if port else address
        self.proxy_protocol_info = None
        self.must_close = False
        self.body = environ["wsgi.input"]
        self.trailers = []
        self.limit_request_line = cfg.value("limit_request_line", 4094)
        self.limit_request_fields = cfg.value("limit_request_fields", 100)
        self.limit_request_field_size = cfg.value("limit_request_field_size", 8190)
        self.headers = []
        for key, value in environ.items():
            if key.startswith("HTTP_"):
                self.headers.append((key[5:].replace("_", "-"), value))
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                self.headers.append((key.replace("_", "-"), value))

    def get_header(self, name):
        """The value of the header, or None."""
        name = name.upper()
        for key, value in self.headers:
            if key == name:
                return value
        return None

    header = get_header


class Response(Facade):
    """What post_request sees of a response."""

    ABSENT = {
        CONNECTION: "sock force_close should_close",
        "it is on its way; middleware around the application can change it":
            "start_response write write_file sendfile send_headers default_headers process_headers close",
    }

    def __init__(self, req, status, headers, length):
        self.req = req
        self.cfg = req.cfg
        self.version = "Monoceros"
        self.status = status
        self.headers = []
        self.response_length = None
        self.sent = length
        self.headers_sent = status is not None
        self.must_close = False
        self.upgrade = False
        for name, value in headers:
            if name.lower() == "content-length":
                if self.status_code == 204:
                    continue
                self.response_length = int(value)
            self.headers.append((name, value))
        self.chunked = self.headers_sent and self.is_chunked()

    @property
    def status_code(self):
        return int(self.status.split(" ", 1)[0]) if self.status else 500

    def is_chunked(self):
        """Whether gunicorn would send it in chunks: how the edge sends it is the edge's."""
        has_body = self.req.method != "HEAD" and self.status_code not in (204, 304)
        return has_body and self.response_length is None and (1, 1) <= self.req.version < (2, 0)

    def can_sendfile(self):
        return self.cfg.value("sendfile", True)
