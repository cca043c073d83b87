//! As much of DER as is needed to find the signed part of what is signed.

/// One element.
pub(super) struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// With its head.
    pub whole: &'a [u8],
}

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const BIT_STRING: u8 = 0x03;

/// The first element, and what follows it.
pub(super) fn next(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((Element { tag, content, whole: &bytes[..bytes.len() - rest.len()] }, rest))
}

/// What is signed, by which algorithm (the content of its `AlgorithmIdentifier`), and the signature: of a certificate,
/// a list of revocations, an answer of OCSP.
pub(super) struct Signed<'a> {
    pub message: &'a [u8],
    pub algorithm: &'a [u8],
    pub signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let (outer, _) = next(der)?;
        let (message, rest) = next(outer.content)?;
        let (algorithm, rest) = next(rest)?;
        let (signature, _) = next(rest)?;
        let is_right = (outer.tag, algorithm.tag, signature.tag) == (SEQUENCE, SEQUENCE, BIT_STRING);
        let signature = whole_bytes(signature.content)?;
        is_right.then_some(Self { message: message.whole, algorithm: algorithm.content, signature })
    }
}

/// Algorithm and key of a `SubjectPublicKeyInfo`.
pub(super) fn public_key(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let (outer, _) = next(spki)?;
    let (algorithm, rest) = next(outer.content)?;
    let (key, _) = next(rest)?;
    let is_right = (outer.tag, algorithm.tag, key.tag) == (SEQUENCE, SEQUENCE, BIT_STRING);
    is_right.then_some((algorithm.content, whole_bytes(key.content)?))
}

/// A string of bits that is one of bytes.
fn whole_bytes(content: &[u8]) -> Option<&[u8]> {
    content.split_first().and_then(|(unused, bytes)| (*unused == 0).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_end_where_they_say_and_not_beyond_what_is_there() {
        let (element, rest) = next(&[4, 2, 1, 2, 9]).unwrap();
        assert_eq!(
            (element.tag, element.content, element.whole, rest),
            (4, &[1, 2][..], &[4, 2, 1, 2][..], &[9][..])
        );
        let long = [&[4, 0x81, 200][..], &[7; 200]].concat();
        assert_eq!(next(&long).unwrap().0.content.len(), 200);
        for broken in [
            &[][..],
            &[4],
            &[4, 1],
            &[4, 0x80],
            &[4, 0x81],
            &[4, 0x85, 1, 1, 1, 1, 1],
            &[4, 0x84, 255, 255, 255, 255, 0],
        ] {
            assert!(next(broken).is_none(), "{broken:?}");
        }
    }
}
