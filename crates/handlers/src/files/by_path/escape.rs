//! Paths and names as they stand in URIs, HTML and JSON, escaped where nginx escapes.

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Where a directory without its slash is redirected to: the path, escaped, a slash, the arguments as they came.
pub fn directory_location(uri: &[u8], args: &[u8]) -> Vec<u8> {
    let mut location = Vec::with_capacity(uri.len() + args.len() + 2);
    percent(&mut location, uri, |b| match b {
        b' ' | b'"' | b'#' | b'%' | b'<' | b'>' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => true,
        _ => !b.is_ascii_graphic(),
    });
    location.push(b'/');
    if !args.is_empty() {
        location.push(b'?');
        location.extend_from_slice(args);
    }
    location
}

/// A name as one component of a URI: only unreserved characters stay.
pub fn component(out: &mut Vec<u8>, name: &[u8]) {
    percent(out, name, |b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'.' | b'_' | b'~'));
}

fn percent(out: &mut Vec<u8>, text: &[u8], escaped: impl Fn(u8) -> bool) {
    for &b in text {
        if escaped(b) {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        } else {
            out.push(b);
        }
    }
}

/// Text in HTML or XML.
pub fn html(out: &mut Vec<u8>, text: &[u8]) {
    for &b in text {
        match b {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            _ => out.push(b),
        }
    }
}

/// Text within a JSON string.
pub fn json(out: &mut Vec<u8>, text: &[u8]) {
    for &b in text {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
            _ => out.push(b),
        }
    }
}

/// The extension of a path's last segment, without the dot. A dot that begins the segment makes none.
pub fn extension(uri: &[u8]) -> &[u8] {
    for at in (2..uri.len()).rev() {
        match uri[at] {
            b'/' => break,
            b'.' if uri[at - 1] != b'/' => return &uri[at + 1..],
            _ => {}
        }
    }
    b""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions() {
        for (uri, expected) in [
            ("/a.html", "html"),
            ("/a.tar.GZ", "GZ"),
            ("/.htaccess", ""),
            ("/d/.x", ""),
            ("/d/.x.y", "y"),
            ("/d.d/a", ""),
            ("/a.", ""),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(extension(uri.as_bytes()), expected.as_bytes(), "{uri}");
        }
    }

    #[test]
    fn locations_of_directories() {
        for (uri, args, expected) in [
            ("/a", "", "/a/"),
            ("/a b", "x=1&y", "/a%20b/?x=1&y"),
            ("/ä%?#", "", "/%C3%A4%25%3F%23/"),
            ("/a:b@c;d=e&f+g,h[i]", "", "/a:b@c;d=e&f+g,h[i]/"),
            ("/a\r\n\\", "", "/a%0D%0A%5C/"),
        ] {
            let location = directory_location(uri.as_bytes(), args.as_bytes());
            assert_eq!(String::from_utf8_lossy(&location), expected);
        }
    }
}
