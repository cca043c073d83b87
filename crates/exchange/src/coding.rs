//! Content codings and what a client accepts of them (RFC 9110 §12.5.3).

use crate::{Fields, Name};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// Every coding, in the default order of preference.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// The token in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The extension of a file that was compressed beforehand, with its dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Br => ".br",
            Self::Gzip => ".gz",
        }
    }
}

/// What `Accept-Encoding` says of each coding: its weight in thousandths, 0 refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptEncoding {
    weights: [u16; 3],
    identity: u16,
}

impl AcceptEncoding {
    /// No preference stated. Any coding would be allowed, but a client that does not ask for one rarely
    /// understands one, so only `identity` is.
    pub const IDENTITY: Self = Self { weights: [0; 3], identity: 1000 };

    /// Reads every `Accept-Encoding` line. An element that is not well-formed is skipped.
    pub fn of(fields: &Fields) -> Self {
        let (mut named, mut identity, mut any) = ([None; 3], None, None);
        for value in fields.all(Name::AcceptEncoding) {
            for element in value.split(|&b| b == b',') {
                let Some((token, weight)) = element_of(element) else { continue };
                // The first mention of a coding counts; `x-gzip` is gzip (RFC 9110 §8.4.1.3).
                let place = match token {
                    t if t.eq_ignore_ascii_case(b"gzip") || t.eq_ignore_ascii_case(b"x-gzip") => {
                        &mut named[Coding::Gzip as usize]
                    }
                    t if t.eq_ignore_ascii_case(b"br") => &mut named[Coding::Br as usize],
                    t if t.eq_ignore_ascii_case(b"zstd") => &mut named[Coding::Zstd as usize],
                    t if t.eq_ignore_ascii_case(b"identity") => &mut identity,
                    b"*" => &mut any,
                    _ => continue,
                };
                place.get_or_insert(weight);
            }
        }
        Self {
            weights: named.map(|w| w.or(any).unwrap_or(0)),
            // Acceptable unless refused by name, or by `*;q=0` without being named.
            identity: identity.unwrap_or(u16::from(any != Some(0))),
        }
    }

    /// The weight of a coding in thousandths; 0 when it must not be used.
    pub const fn weight(&self, coding: Coding) -> u16 {
        self.weights[coding as usize]
    }

    /// Whether the client takes a body as it is.
    pub const fn takes_identity(&self) -> bool {
        self.identity > 0
    }

    /// The coding to use of those on `offer` (the server's order of preference, which decides between equal
    /// weights); `None` when none is acceptable or the client would rather have none.
    pub fn choose(&self, offer: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let mut best = None;
        // `identity` not mentioned is taken as the least preferred (RFC 9110 §12.5.3); see `of`.
        let mut weight = self.identity.max(1) - 1;
        for coding in offer {
            if self.weight(coding) > weight {
                (best, weight) = (Some(coding), self.weight(coding));
            }
        }
        best
    }
}

/// The token and weight of `gzip ; q=0.5`.
fn element_of(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.split(|&b| b == b';');
    let token = parts.next()?.trim_ascii();
    if token.is_empty() {
        return None;
    }
    let mut weight = 1000;
    for parameter in parts {
        let parameter = parameter.trim_ascii();
        match parameter.iter().position(|&b| b == b'=') {
            Some(at) if parameter[..at].trim_ascii().eq_ignore_ascii_case(b"q") => {
                weight = weight_of(parameter[at + 1..].trim_ascii())?;
            }
            _ => {}
        }
    }
    Some((token, weight))
}

/// A qvalue in thousandths: `0`, `0.`, `0.123`, `1`, `1.000` (RFC 9110 §12.4.2).
fn weight_of(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut value = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    let mut unit = 100;
    for digit in decimals {
        if !digit.is_ascii_digit() {
            return None;
        }
        value += u16::from(digit - b'0') * unit;
        unit /= 10;
    }
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(lines: &[&str]) -> Option<Coding> {
        let mut fields = Fields::new();
        for line in lines {
            fields.push(b"accept-encoding", line.as_bytes());
        }
        AcceptEncoding::of(&fields).choose(Coding::ALL)
    }

    #[test]
    fn the_server_decides_between_equal_weights_and_the_client_otherwise() {
        assert_eq!(chosen(&["gzip, deflate, br, zstd"]), Some(Coding::Zstd));
        assert_eq!(chosen(&["gzip, br"]), Some(Coding::Br));
        assert_eq!(chosen(&["gzip", "br"]), Some(Coding::Br));
        assert_eq!(chosen(&["gzip;q=1.0, br;q=0.5"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["GZIP ; Q=0.001"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["x-gzip"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["*"]), Some(Coding::Zstd));
        assert_eq!(chosen(&["zstd;q=0, *"]), Some(Coding::Br));
        assert_eq!(chosen(&["gzip;q=0.5, identity;q=0.5"]), Some(Coding::Gzip));
    }

    #[test]
    fn what_is_refused_or_not_wanted_is_not_used() {
        for lines in [
            &[][..],
            &[""],
            &["identity"],
            &["deflate"],
            &["gzip;q=0"],
            &["gzip;q=0.000, br;q=0, zstd;q=0"],
            &["*;q=0"],
            &["identity, gzip;q=0.5"],
            &["gzip;q=2"],
            &["gzip;q=1.001"],
            &["gzip;q=0.1234"],
            &["gzip;q=-1"],
            &["gzip;q="],
            &[",,;q=1,"],
        ] {
            assert_eq!(chosen(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn identity_is_refused_by_name_or_by_the_star() {
        let accepts = |line: &str| {
            let mut fields = Fields::new();
            fields.push(b"Accept-Encoding", line.as_bytes());
            AcceptEncoding::of(&fields).takes_identity()
        };
        assert!(accepts("gzip") && accepts("*") && accepts("*;q=0, identity") && accepts(""));
        assert!(!accepts("gzip, identity;q=0") && !accepts("gzip, *;q=0"));
    }
}
