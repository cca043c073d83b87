//! Media types by file name.

use std::collections::HashMap;

/// What is sent for an unknown extension.
const UNKNOWN: &str = "application/octet-stream";

/// Where the common tables are wrong or silent for the web: extension (lower case), type.
const CORRECTED: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("cjs", "text/javascript"),
    ("gz", "application/gzip"),
    ("js", "text/javascript"),
    ("map", "application/json"),
    ("mjs", "text/javascript"),
    ("ts", "video/mp2t"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
];

/// The `Content-Type` of a file: an override by extension, then a table. Types of text get
/// `charset=utf-8`, except XML, which names its own encoding; JSON has no such parameter (RFC 8259 §11).
pub fn content_type(name: &[u8], overrides: &HashMap<String, String>) -> String {
    let name = name.rsplit(|&b| b == b'/').next().unwrap_or_default();
    if name == b"apple-app-site-association" {
        return "application/json".into();
    }
    let Some(extension) = name
        .iter()
        .rposition(|&b| b == b'.')
        .and_then(|dot| std::str::from_utf8(&name[dot + 1..]).ok())
        .map(str::to_ascii_lowercase)
    else {
        return UNKNOWN.into();
    };
    if let Some(given) = overrides.get(&extension) {
        return given.clone();
    }
    let media_type = match CORRECTED.binary_search_by_key(&extension.as_str(), |row| row.0) {
        Ok(at) => CORRECTED[at].1,
        Err(_) => mime_guess::from_ext(&extension).first_raw().unwrap_or(UNKNOWN),
    };
    if media_type.starts_with("text/") && media_type != "text/xml" {
        format!("{media_type}; charset=utf-8")
    } else {
        media_type.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_what_a_site_serves() {
        let overrides = HashMap::from([("foo".to_owned(), "x/foo".to_owned())]);
        for (name, expected) in [
            ("a/index.html", "text/html; charset=utf-8"),
            ("A.CSS", "text/css; charset=utf-8"),
            ("admin/js/core.js", "text/javascript; charset=utf-8"),
            ("x.min.js.map", "application/json"),
            ("data.json", "application/json"),
            ("i.svg", "image/svg+xml"),
            ("i.png", "image/png"),
            ("f.woff2", "font/woff2"),
            ("t.txt", "text/plain; charset=utf-8"),
            ("b.wasm", "application/wasm"),
            ("a.foo", "x/foo"),
            ("dir.html/none", UNKNOWN),
            ("a.", UNKNOWN),
            ("a.zzzz", UNKNOWN),
            ("", UNKNOWN),
        ] {
            assert_eq!(content_type(name.as_bytes(), &overrides), expected, "{name}");
        }
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(CORRECTED.is_sorted_by_key(|row| row.0));
    }
}
