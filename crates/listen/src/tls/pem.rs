//! PEM: sections of base64 between two lines (RFC 7468), with the older header lines of encrypted keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A section.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// `CERTIFICATE`
    pub label: String,
    /// `DEK-Info` and the like, if there are any.
    pub headers: Vec<(String, String)>,
    /// What the base64 stands for.
    pub data: Vec<u8>,
}

/// All sections of a file, in order. What stands between them means nothing.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section>, &'static str> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim_end);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let (mut headers, mut base64) = (Vec::new(), String::new());
        loop {
            let Some(line) = lines.next() else { return Err("a section has no END line") };
            if line == end {
                break;
            }
            match line.split_once(": ") {
                Some((name, value)) if base64.is_empty() => headers.push((name.to_owned(), value.to_owned())),
                _ => base64.push_str(line.trim()),
            }
        }
        let data = STANDARD.decode(base64).map_err(|_| "a section is not base64")?;
        found.push(Section { label: label.to_owned(), headers, data });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_between_other_text() {
        let text = "subject=x\n-----BEGIN A-----\r\nAQ\r\nID\r\n-----END A-----\n\n-----BEGIN B C-----\nProc-Type: 4,ENCRYPTED\n\
                    DEK-Info: AES-128-CBC,00\n\nAA==\n-----END B C-----";
        let sections = sections(text.as_bytes()).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!((sections[0].label.as_str(), sections[0].data.as_slice()), ("A", &[1, 2, 3][..]));
        assert_eq!(sections[1].headers[1], ("DEK-Info".to_owned(), "AES-128-CBC,00".to_owned()));
        assert_eq!(sections[1].data, [0]);
    }

    #[test]
    fn what_is_broken_is_an_error() {
        assert!(sections(b"-----BEGIN A-----\nAQID\n").is_err());
        assert!(sections(b"-----BEGIN A-----\nA!ID\n-----END A-----\n").is_err());
        assert_eq!(sections(b"nothing\0\xff").unwrap(), []);
    }
}
