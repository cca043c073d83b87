use super::*;
use crate::tls::pem::sections;

/// A certificate with an authority, and what several signers say of it: June 1 to June 8, 2026.
const ANSWERS: &[u8] = include_bytes!("answers.pem");
/// June 2, 2026
const WITHIN: i64 = 1_780_358_400;
/// June 8, 2026
const END: i64 = 1_780_876_800;
const DAY: i64 = 24 * 60 * 60;

fn der(label: &str) -> Vec<u8> {
    let found = sections(ANSWERS).unwrap().into_iter().find(|section| section.label == label);
    found.unwrap_or_else(|| panic!("no {label}")).data
}

fn inquiry() -> Inquiry {
    let (first, second) = (der("OTHER AUTHORITY"), der("AUTHORITY"));
    Inquiry::new(&der("LEAF"), [&first[..], &second]).unwrap()
}

fn check(label: &str, trust: Trust) -> Result<Verdict, Wrong> {
    inquiry().check(&der(label), trust, WITHIN)
}

const GOOD: Result<Verdict, Wrong> = Ok(Verdict { status: Status::Good, until: END });

#[test]
fn the_issuer_is_who_has_signed_and_not_who_has_the_name() {
    let other = der("OTHER AUTHORITY");
    assert_eq!(Inquiry::new(&der("LEAF"), [&other[..]]), Err(Wrong::NoIssuer));
    assert_eq!(Inquiry::new(&der("LEAF"), []), Err(Wrong::NoIssuer));
    assert_eq!(Inquiry::new(b"x", []), Err(Wrong::Certificate));
    assert_eq!(inquiry().responder(), Some("http://ocsp.example/base"));
    let authority = der("AUTHORITY");
    assert_eq!(Inquiry::new(&der("OTHER LEAF"), [&authority[..]]).unwrap().responder(), None);
}

#[test]
fn a_request_is_as_others_make_it() {
    let request = inquiry().request();
    assert_eq!(request, der("REQUEST"));
    let path = inquiry().request_path();
    assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%'), "{path}");
    let decoded = path.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    assert_eq!(STANDARD.decode(decoded).unwrap(), request);
}

#[test]
fn the_issuer_and_whom_it_has_certified_may_answer() {
    for trust in [Trust::Issuer, Trust::Anybody] {
        assert_eq!(check("GOOD", trust), GOOD);
        assert_eq!(check("GOOD BY NAME", trust), GOOD);
        assert_eq!(check("DELEGATE", trust), GOOD);
        assert_eq!(check("REVOKED", trust).unwrap().status, Status::Revoked);
        assert_eq!(check("UNKNOWN", trust).unwrap().status, Status::Unknown);
        assert_eq!(check("OTHER KEY", trust), Err(Wrong::Signature));
        assert_eq!(check("NO SIGNER", trust), Err(Wrong::NoSigner));
    }
    for label in ["NO USAGE", "STRANGER", "EXPIRED DELEGATE"] {
        assert_eq!(check(label, Trust::Issuer), Err(Wrong::Unauthorised), "{label}");
        assert_eq!(check(label, Trust::Anybody), GOOD, "{label}");
    }
}

#[test]
fn an_answer_is_about_this_certificate_and_whole() {
    assert_eq!(check("OTHER CERTIFICATE", Trust::Issuer), Err(Wrong::OtherCertificate));
    // Nobody has asked by this hash.
    assert_eq!(check("SHA-256", Trust::Issuer), Err(Wrong::OtherCertificate));
    assert_eq!(check("CRITICAL", Trust::Issuer), Err(Wrong::CriticalExtension));
    assert_eq!(check("TRY LATER", Trust::Issuer), Err(Wrong::Refused { status: 3 }));
    assert_eq!(Wrong::Refused { status: 3 }.to_string(), "OCSP response not successful (3: trylater)");
    let good = der("GOOD");
    let large = [&good[..], &vec![0; LARGEST]].concat();
    assert_eq!(inquiry().check(&large, Trust::Issuer, WITHIN), Err(Wrong::Malformed));
}

#[test]
fn an_answer_holds_for_its_time() {
    let at = |label, now| inquiry().check(&der(label), Trust::Issuer, now);
    assert_eq!(at("GOOD", WITHIN - 2 * DAY), Err(Wrong::NotYetValid));
    assert_eq!(at("GOOD", END + SKEW), GOOD);
    assert_eq!(at("GOOD", END + SKEW + 1), Err(Wrong::Expired));
    // Without an end it is believed for a day, and for the moment in any case.
    assert_eq!(at("UNBOUNDED", WITHIN - DAY).unwrap().until, WITHIN);
    assert_eq!(at("UNBOUNDED", END).unwrap().until, END);
}

#[test]
fn nothing_that_was_changed_or_cut_is_an_answer() {
    let inquiry = inquiry();
    for label in ["GOOD", "REVOKED", "DELEGATE"] {
        let answer = der(label);
        for cut in 0..answer.len() {
            assert!(inquiry.check(&answer[..cut], Trust::Issuer, WITHIN).is_err(), "{label} cut at {cut}");
        }
        let right = inquiry.check(&answer, Trust::Issuer, WITHIN).unwrap();
        for at in 0..answer.len() {
            for bit in [0x01, 0x20, 0x80] {
                let mut changed = answer.clone();
                changed[at] ^= bit;
                // What is not signed may be another way to write the same.
                if let Ok(verdict) = inquiry.check(&changed, Trust::Issuer, WITHIN) {
                    assert_eq!(verdict, right, "{label} changed at {at}");
                }
                let _ = inquiry.check(&changed, Trust::Anybody, WITHIN);
            }
        }
    }
}

#[test]
fn a_certificate_may_ask_for_an_answer() {
    assert!(must_staple(&der("LEAF")));
    assert!(!must_staple(&der("OTHER LEAF")));
    assert!(!must_staple(b"x"));
}
