//! `Range` and what answers it (RFC 9110 §14).

use bytes::Bytes;

/// More parts than this are not worth their heads: the whole is sent instead (RFC 9110 §14.2 allows it).
pub const MAX_RANGES: usize = 32;

/// What a `Range` field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The field does not count: it is malformed, of another unit, or asks for too much at once.
    Whole,
    /// First byte and length of each; at least one, none empty, all inside the representation, in the
    /// order asked for.
    Parts(Vec<(u64, u64)>),
    /// Well-formed, but nothing of it is inside: 416.
    Unsatisfiable,
}

impl Ranges {
    /// Reads a `Range` field for a representation of `size` bytes.
    pub fn parse(field: &[u8], size: u64) -> Self {
        let field = field.trim_ascii();
        let Some((unit, set)) = field.split_at_checked(6) else { return Self::Whole };
        if !unit.eq_ignore_ascii_case(b"bytes=") {
            return Self::Whole;
        }
        let mut parts = Vec::new();
        let (mut seen, mut total) = (0, 0u64);
        for spec in set.split(|&b| b == b',') {
            let spec = spec.trim_ascii();
            if spec.is_empty() {
                continue;
            }
            seen += 1;
            let Ok(part) = one(spec, size) else { return Self::Whole };
            if seen > MAX_RANGES {
                return Self::Whole;
            }
            if let Some((start, len)) = part {
                total = total.saturating_add(len);
                parts.push((start, len));
            }
        }
        match (seen, parts.len()) {
            (0, _) => Self::Whole,
            (_, 0) => Self::Unsatisfiable,
            // Overlapping parts that add up to more than the whole are an attack or a mistake (CVE-2011-3192).
            (_, 2..) if total > size => Self::Whole,
            _ => Self::Parts(parts),
        }
    }
}

/// One range spec that is none.
struct Malformed;

/// One range; `None` when it is outside the representation.
fn one(spec: &[u8], size: u64) -> Result<Option<(u64, u64)>, Malformed> {
    let dash = spec.iter().position(|&b| b == b'-').ok_or(Malformed)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        let suffix = number(last)?.min(size);
        return Ok((suffix > 0).then(|| (size - suffix, suffix)));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return Err(Malformed);
    }
    Ok((first < size).then(|| (first, last.min(size - 1) - first + 1)))
}

/// Digits only; what is over 2^64 is the same as 2^64 - 1, beyond every file.
fn number(text: &[u8]) -> Result<u64, Malformed> {
    if text.is_empty() {
        return Err(Malformed);
    }
    text.iter().try_fold(0u64, |n, b| match b {
        b'0'..=b'9' => Ok(n.saturating_mul(10).saturating_add(u64::from(b - b'0'))),
        _ => Err(Malformed),
    })
}

/// `bytes 0-499/1234`.
pub fn content_range(start: u64, len: u64, size: u64) -> String {
    format!("bytes {start}-{}/{size}", start + len - 1)
}

/// The head of one part of `multipart/byteranges` (RFC 9110 §14.6).
pub fn part_head(boundary: &str, content_type: &[u8], range: &str) -> Bytes {
    let mut head = Vec::with_capacity(96 + content_type.len());
    head.extend_from_slice(b"\r\n--");
    head.extend_from_slice(boundary.as_bytes());
    head.extend_from_slice(b"\r\nContent-Type: ");
    head.extend_from_slice(content_type);
    head.extend_from_slice(b"\r\nContent-Range: ");
    head.extend_from_slice(range.as_bytes());
    head.extend_from_slice(b"\r\n\r\n");
    head.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        use Ranges::{Parts, Unsatisfiable, Whole};
        for (field, expected) in [
            ("bytes=0-0", Parts(vec![(0, 1)])),
            ("bytes=2-5", Parts(vec![(2, 4)])),
            ("Bytes=2-", Parts(vec![(2, 8)])),
            ("bytes=-3", Parts(vec![(7, 3)])),
            ("bytes=-30", Parts(vec![(0, 10)])),
            ("bytes=0-99999999999999999999999", Parts(vec![(0, 10)])),
            ("bytes=0-1, 4-5 ,,-1", Parts(vec![(0, 2), (4, 2), (9, 1)])),
            ("bytes=20-30,1-1", Parts(vec![(1, 1)])),
            ("bytes=10-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=0-,0-", Whole),
            ("bytes=5-2", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1-2-3", Whole),
            ("bytes 0-1", Whole),
            ("lines=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(Ranges::parse(field.as_bytes(), 10), expected, "{field}");
        }
        assert_eq!(Ranges::parse(b"bytes=0-", 0), Unsatisfiable);
        let many = format!("bytes={}", "0-0,".repeat(MAX_RANGES + 1));
        assert_eq!(Ranges::parse(many.as_bytes(), 1000), Whole);
    }

    proptest! {
        #[test]
        fn never_reaches_outside(field in "(bytes=)?[0-9,\\- a]{0,60}", size in 0u64..2000) {
            if let Ranges::Parts(parts) = Ranges::parse(field.as_bytes(), size) {
                prop_assert!(!parts.is_empty() && parts.len() <= MAX_RANGES);
                for (start, len) in parts {
                    prop_assert!(len > 0 && start + len <= size);
                }
            }
        }

        #[test]
        fn never_panics(field in proptest::collection::vec(any::<u8>(), 0..80), size in any::<u64>()) {
            let _ = Ranges::parse(&field, size);
        }
    }
}
