//! OpenSSL's language for a choice of cipher suites (`openssl ciphers`), over the suites that there are.

/// A suite of TLS 1.2.
struct Suite {
    number: u16,
    name: &'static str,
    standard_name: &'static str,
    /// The classes that OpenSSL has it in, beside those of all.
    classes: &'static [&'static str],
    bits: u16,
}

/// What all of them are.
const COMMON: &[&str] =
    &["ALL", "DEFAULT", "HIGH", "kECDHE", "kEECDH", "ECDHE", "EECDH", "ECDH", "TLSv1.2", "AEAD"];

/// The suites of TLS 1.2 in OpenSSL's own order.
const SUITES: [Suite; 6] = [
    Suite {
        number: 0xc02c,
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        standard_name: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        classes: &["aECDSA", "ECDSA", "AES", "AESGCM", "AES256", "FIPS", "SUITEB128", "SUITEB192"],
        bits: 256,
    },
    Suite {
        number: 0xc030,
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        standard_name: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        classes: &["aRSA", "AES", "AESGCM", "AES256", "FIPS"],
        bits: 256,
    },
    Suite {
        number: 0xcca9,
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        standard_name: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        classes: &["aECDSA", "ECDSA", "CHACHA20"],
        bits: 256,
    },
    Suite {
        number: 0xcca8,
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        standard_name: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        classes: &["aRSA", "CHACHA20"],
        bits: 256,
    },
    Suite {
        number: 0xc02b,
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        standard_name: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        classes: &["aECDSA", "ECDSA", "AES", "AESGCM", "AES128", "FIPS", "SUITEB128", "SUITEB128ONLY"],
        bits: 128,
    },
    Suite {
        number: 0xc02f,
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        standard_name: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        classes: &["aRSA", "AES", "AESGCM", "AES128", "FIPS"],
        bits: 128,
    },
];

/// The suites of TLS 1.2 where nobody chooses.
pub const DEFAULT_12: [u16; 6] = [0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc02b, 0xc02f];
/// The suites of TLS 1.3, likewise.
pub const DEFAULT_13: [u16; 3] = [0x1302, 0x1303, 0x1301];

/// What a text has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// IANA's numbers, the best first. It may be empty.
    pub suites: Vec<u16>,
    /// Suites that were named and are not there.
    pub missing: Vec<String>,
}

/// The suites of TLS 1.2 that a text in OpenSSL's language chooses.
pub fn ciphers(text: &str) -> Chosen {
    let mut chosen: Vec<&Suite> = Vec::new();
    let mut banned: Vec<u16> = Vec::new();
    let mut missing = Vec::new();
    for word in text.split([':', ',', ' ', ';']).filter(|word| !word.is_empty()) {
        match word {
            "@STRENGTH" => chosen.sort_by_key(|suite| std::cmp::Reverse(suite.bits)),
            _ if word.starts_with('@') => {}
            _ => {
                let (sign, names) = match word.split_at_checked(1) {
                    Some((sign @ ("!" | "-" | "+"), names)) => (sign, names),
                    _ => ("", word),
                };
                let is_meant = |suite: &&Suite| names.split('+').all(|name| suite.is(name));
                match sign {
                    "!" => {
                        banned.extend(SUITES.iter().filter(is_meant).map(|suite| suite.number));
                        chosen.retain(|suite| !is_meant(suite));
                    }
                    "-" => chosen.retain(|suite| !is_meant(suite)),
                    "+" => chosen.sort_by_key(is_meant),
                    _ => {
                        let new = SUITES.iter().filter(is_meant);
                        let new = new.filter(|suite| !banned.contains(&suite.number));
                        let before = chosen.len();
                        for suite in new {
                            if !chosen[..before].iter().any(|known| known.number == suite.number) {
                                chosen.push(suite);
                            }
                        }
                        if is_suite(names) && !SUITES.iter().any(|suite| suite.is(names)) {
                            missing.push(names.to_owned());
                        }
                    }
                }
            }
        }
    }
    Chosen { suites: chosen.iter().map(|suite| suite.number).collect(), missing }
}

/// The suites of TLS 1.3 that a text names, as OpenSSL's `Ciphersuites`.
pub fn suites_of_13(text: &str) -> Chosen {
    let mut chosen = Chosen { suites: Vec::new(), missing: Vec::new() };
    for word in text.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        match DEFAULT_13.into_iter().find(|number| super::suite_name(*number) == Some(word)) {
            Some(number) if chosen.suites.contains(&number) => {}
            Some(number) => chosen.suites.push(number),
            None => chosen.missing.push(word.to_owned()),
        }
    }
    chosen
}

/// Whether a word is the name of one suite, and not of a class.
fn is_suite(word: &str) -> bool {
    word.contains('-') || word.starts_with("TLS_")
}

impl Suite {
    fn is(&self, name: &str) -> bool {
        self.name == name
            || self.standard_name == name
            || COMMON.contains(&name)
            || self.classes.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        ciphers(text).suites.iter().filter_map(|number| super::super::suite_name(*number)).collect()
    }

    #[test]
    fn a_word_may_begin_with_any_letter() {
        assert!(ciphers("\u{e9}:!\u{e9}:\u{c46}").suites.is_empty());
    }

    #[test]
    fn usual_texts_choose_what_openssl_chooses() {
        // `openssl ciphers -v TEXT`, of which these six are left.
        let all = [
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
        ];
        for text in
            ["HIGH:!aNULL:!MD5", "DEFAULT", "ALL:!EXPORT:!LOW", "ECDHE:DHE", "kEECDH+HIGH:@SECLEVEL=2"]
        {
            assert_eq!(names(text), all, "{text}");
        }
        assert_eq!(names("EECDH+AESGCM:EDH+AESGCM"), [all[0], all[1], all[4], all[5]]);
        assert_eq!(names("HIGH:+AES256"), [all[2], all[3], all[4], all[5], all[0], all[1]]);
        assert_eq!(names("ECDHE+AES128:HIGH:-CHACHA20"), [all[4], all[5], all[0], all[1]]);
        assert_eq!(names("!ECDSA:HIGH"), [all[1], all[3], all[5]]);
        assert_eq!(
            names("AES128:CHACHA20:AES256:@STRENGTH"),
            [all[2], all[3], all[0], all[1], all[4], all[5]]
        );
    }

    #[test]
    fn mozillas_list_keeps_its_order() {
        let text = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
                    ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
                    DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384";
        let chosen = ciphers(text);
        assert_eq!(chosen.suites, [0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8]);
        assert_eq!(chosen.missing, ["DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384"]);
    }

    #[test]
    fn nothing_may_be_left() {
        for text in ["AES128-SHA", "kRSA", "RC4:3DES", "HIGH:!ECDHE", ""] {
            assert!(ciphers(text).suites.is_empty(), "{text}");
        }
        assert!(suites_of_13("TLS_AES_128_CCM_SHA256").suites.is_empty());
        assert_eq!(suites_of_13("TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384").suites, [0x1301, 0x1302]);
    }
}
