//! Static files and compression: nginx's half, under its names where it has one.

use super::{Kind, Section, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new("static", Section::Files, Kind::Pairs)
        .flags(&["--static"])
        .meta("URL=DIR")
        .doc(
            "Serve the files of a directory below a URL prefix without the application, as \
             `--static /static/=./staticfiles`. Repeat it for more; the longest prefix wins. A `/` is added to the \
             prefix where it is missing, so that it cannot match half a name.",
        )
        .ours(),
    Setting::new("static_symlinks", Section::Files, Kind::Words(&["beneath", "follow", "deny"]))
        .flags(&["--static-symlinks"])
        .meta("MODE")
        .default("beneath")
        .doc(
            "Symbolic links in a served directory: followed while they stay inside it (`beneath`), wherever they \
             lead (`follow`), or never (`deny`). As nginx's `disable_symlinks`.",
        )
        .ours(),
    Setting::new("index", Section::Files, Kind::Commas)
        .flags(&["--index"])
        .meta("FILES")
        .default("index.html")
        .doc("File names that are tried, in this order, for a URL that ends in `/`.")
        .ours(),
    Setting::new("accel", Section::Files, Kind::Pairs)
        .flags(&["--accel"])
        .meta("URL=DIR")
        .doc(
            "Where `X-Accel-Redirect` and `X-Sendfile` of the application may point, as \
             `--accel /internal/=/srv/files`: a private URL prefix and the directory behind it. Clients cannot ask \
             for it. Repeat it for more. With `X-Accel-Redirect` these fields of the application go along: \
             `Content-Type`, `Set-Cookie`, `Cache-Control`, `Expires`, `Content-Disposition`, `Content-Language`, \
             `Content-Security-Policy`, `X-Content-Type-Options`, `X-Frame-Options` and `Referrer-Policy`; with \
             `X-Sendfile` all that do not describe the file itself.",
        )
        .ours(),
    Setting::new("sendfile", Section::Files, Kind::Flag(false))
        .flags(&["--no-sendfile"])
        .default("true")
        .env("SENDFILE")
        .doc("Whether files are sent with `sendfile(2)`; the flag switches that off. So does `$SENDFILE` with anything but `y`, `1`, `yes` or `true`.")
        .differs("`sendfile = True` in a settings file means what it says; in gunicorn any value there switches it off."),
    Setting::new("compress", Section::Compression, Kind::Commas)
        .flags(&["--compress"])
        .meta("CODINGS")
        .default("zstd,br,gzip")
        .doc(
            "Compress responses with the first of these codings that the client likes best; `off` compresses \
             nothing, `on` is the default. Files with a compressed twin beside them (`.zst`, `.br`, `.gz`) are \
             sent as that.",
        )
        .ours(),
    Setting::new("compress_types", Section::Compression, Kind::Commas)
        .flags(&["--compress-types"])
        .meta("TYPES")
        .default(
            "text/*,application/javascript,application/json,application/ld+json,application/manifest+json,\
             application/xml,application/rss+xml,application/atom+xml,application/xhtml+xml,application/wasm,\
             image/svg+xml,image/x-icon,font/ttf,font/otf",
        )
        .doc("Media types of responses that are compressed; `text/*` stands for all of a kind, `*` for all. As nginx's `gzip_types`.")
        .ours(),
    Setting::new("compress_min_length", Section::Compression, Kind::Size)
        .flags(&["--compress-min-length"])
        .default("256")
        .doc("Responses shorter than this many bytes are not compressed. As nginx's `gzip_min_length`.")
        .ours(),
    Setting::new("compress_level", Section::Compression, Kind::Commas)
        .flags(&["--compress-level"])
        .meta("LEVELS")
        .default("zstd=3,br=4,gzip=5")
        .doc(
            "How hard each coding tries: `zstd` 1 to 19, `br` 0 to 11, `gzip` 1 to 9. What is not named keeps its \
             default. As nginx's `gzip_comp_level`.",
        )
        .ours(),
];
