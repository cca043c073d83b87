//! What is told of a client's certificate, as nginx's variables have it.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::clients::{self, Flaw};

/// A certificate that a client has shown, whose key it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub(super) der: Box<[u8]>,
    /// Whether somebody who is trusted has signed it.
    pub verdict: Result<(), Flaw>,
}

/// What may be asked of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// PEM.
    Pem,
    /// RFC 4514.
    Subject,
    /// The same of its issuer.
    Issuer,
    /// With slashes, as OpenSSL once wrote it.
    SubjectLegacy,
    /// The same of its issuer.
    IssuerLegacy,
    /// Hexadecimal, upper case.
    Serial,
    /// SHA-1, hexadecimal.
    Fingerprint,
    /// When it begins to be valid.
    Start,
    /// When it ends to be.
    End,
    /// Days until then.
    Remaining,
}

impl ClientCertificate {
    /// Puts it behind what `out` holds; `false`: there is none.
    pub fn write(&self, field: Field, out: &mut Vec<u8>) -> bool {
        let mut text = String::new();
        let Ok(certificate) = clients::parse(&self.der) else { return false };
        match field {
            Field::Pem => {
                out.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
                for line in STANDARD.encode(&self.der).as_bytes().chunks(64) {
                    out.extend_from_slice(line);
                    out.push(b'\n');
                }
                out.extend_from_slice(b"-----END CERTIFICATE-----\n");
                return true;
            }
            Field::Subject => return name(certificate.subject(), out),
            Field::Issuer => return name(certificate.issuer(), out),
            Field::SubjectLegacy => return legacy(certificate.subject(), out),
            Field::IssuerLegacy => return legacy(certificate.issuer(), out),
            Field::Serial => serial(&certificate, &mut text),
            Field::Fingerprint => {
                let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der);
                for byte in hash.as_ref() {
                    let _ = write!(text, "{byte:02x}");
                }
            }
            Field::Start => time(&certificate.validity().not_before, &mut text),
            Field::End => time(&certificate.validity().not_after, &mut text),
            Field::Remaining => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |s| s.as_secs() as i64);
                let left = certificate.validity().not_after.timestamp().saturating_sub(now).max(0);
                let _ = write!(text, "{}", left / 86400);
            }
        }
        out.extend_from_slice(text.as_bytes());
        true
    }
}

fn serial(certificate: &X509Certificate<'_>, text: &mut String) {
    let raw = certificate.raw_serial();
    let (sign, digits) = match raw {
        [first, ..] if *first >= 0x80 => {
            // Two's complement.
            let mut digits: Vec<u8> = raw.iter().map(|byte| !byte).collect();
            for digit in digits.iter_mut().rev() {
                let (sum, carry) = digit.overflowing_add(1);
                *digit = sum;
                if !carry {
                    break;
                }
            }
            ("-", digits)
        }
        [0, rest @ ..] if !rest.is_empty() => ("", rest.to_vec()),
        raw => ("", raw.to_vec()),
    };
    text.push_str(sign);
    for byte in digits {
        let _ = write!(text, "{byte:02X}");
    }
}

/// `Nov 29 06:00:00 2026 GMT`
fn time(time: &ASN1Time, text: &mut String) {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let time = time.to_datetime();
    let month = MONTHS[usize::from(u8::from(time.month()) - 1)];
    let (day, year) = (time.day(), time.year());
    let _ = write!(
        text,
        "{month} {day:2} {:02}:{:02}:{:02} {year} GMT",
        time.hour(),
        time.minute(),
        time.second()
    );
}

/// OpenSSL's short names.
const NAMES: [(&str, &str); 28] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.16", "postalAddress"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.18", "postOfficeBox"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
];

/// The kind of an attribute by its short name, else its number.
fn kind(attribute: &AttributeTypeAndValue<'_>) -> (String, bool) {
    let id = attribute.attr_type().to_id_string();
    match NAMES.iter().find(|(number, _)| *number == id) {
        Some((_, name)) => ((*name).to_owned(), true),
        None => (id, false),
    }
}

/// As RFC 4514 has it: the last first.
fn name(name: &X509Name<'_>, out: &mut Vec<u8>) -> bool {
    let parts: Vec<_> = name.iter_rdn().collect();
    for (at, part) in parts.iter().rev().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let attributes: Vec<_> = part.iter().collect();
        for (at, attribute) in attributes.iter().rev().enumerate() {
            if at > 0 {
                out.push(b'+');
            }
            let (kind, is_known) = kind(attribute);
            out.extend_from_slice(kind.as_bytes());
            out.push(b'=');
            match text(attribute.attr_value()) {
                Some(text) if is_known => escape(&text, out),
                _ => hexadecimal(attribute.attr_value(), out),
            }
        }
    }
    true
}

/// A value that is no text, or of a kind that nobody knows: its DER.
fn hexadecimal(value: &Any<'_>, out: &mut Vec<u8>) {
    let length = value.data.len();
    let mut text = format!("#{:02X}", value.header.tag().0);
    let _ = match length {
        0..=0x7f => write!(text, "{length:02X}"),
        0x80..=0xff => write!(text, "81{length:02X}"),
        _ => write!(text, "82{length:04X}"),
    };
    for byte in value.data {
        let _ = write!(text, "{byte:02X}");
    }
    out.extend_from_slice(text.as_bytes());
}

/// A text, as UTF-8; `None`: it is none.
fn text(value: &Any<'_>) -> Option<Vec<u8>> {
    let from = |units: Vec<u32>| -> Option<Vec<u8>> {
        let text: Option<String> = units.into_iter().map(char::from_u32).collect();
        Some(text?.into_bytes())
    };
    match value.header.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            Some(value.data.to_vec())
        }
        Tag::T61String => from(value.data.iter().map(|byte| u32::from(*byte)).collect()),
        Tag::BmpString => {
            from(value.data.chunks(2).map(|c| c.iter().fold(0, |n, b| (n << 8) | u32::from(*b))).collect())
        }
        Tag::UniversalString => {
            from(value.data.chunks(4).map(|c| c.iter().fold(0, |n, b| (n << 8) | u32::from(*b))).collect())
        }
        _ => None,
    }
}

fn escape(text: &[u8], out: &mut Vec<u8>) {
    for (at, byte) in text.iter().enumerate() {
        let is_end = at == 0 || at + 1 == text.len();
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend_from_slice(&[b'\\', *byte]),
            b'#' if at == 0 => out.extend_from_slice(b"\\#"),
            b' ' if is_end => out.extend_from_slice(b"\\ "),
            0..0x20 | 0x7f.. => out.extend_from_slice(format!("\\{byte:02X}").as_bytes()),
            _ => out.push(*byte),
        }
    }
}

/// `/C=XX/CN=a`
fn legacy(name: &X509Name<'_>, out: &mut Vec<u8>) -> bool {
    for attribute in name.iter_attributes() {
        out.push(b'/');
        out.extend_from_slice(kind(attribute).0.as_bytes());
        out.push(b'=');
        for byte in attribute.attr_value().data {
            match byte {
                b' '..=b'~' => out.push(*byte),
                _ => out.extend_from_slice(format!("\\x{byte:02X}").as_bytes()),
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_a_name_is_escaped() {
        let escaped = |text: &[u8]| {
            let mut out = Vec::new();
            escape(text, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(escaped(b" a,b+\"\\<>; "), "\\ a\\,b\\+\\\"\\\\\\<\\>\\;\\ ");
        assert_eq!(escaped(b"#a#"), "\\#a#");
        assert_eq!(escaped("ü\n".as_bytes()), "\\C3\\BC\\0A");
    }
}
