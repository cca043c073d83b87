//! Groups for the key exchange, by OpenSSL's names.

/// The groups where nobody chooses: the one that quantum computers do not help against first.
pub const DEFAULT_GROUPS: [u16; 4] = [0x11ec, 0x001d, 0x0017, 0x0018];

/// Number, names of which the first is shown, and whether it is there.
const GROUPS: &[(u16, &[&str], bool)] = &[
    (0x0017, &["prime256v1", "P-256", "secp256r1"], true),
    (0x0018, &["secp384r1", "P-384"], true),
    (0x0019, &["secp521r1", "P-521"], false),
    (0x001a, &["brainpoolP256r1"], false),
    (0x001b, &["brainpoolP384r1"], false),
    (0x001c, &["brainpoolP512r1"], false),
    (0x001d, &["X25519"], true),
    (0x001e, &["X448"], false),
    (0x001f, &["brainpoolP256r1tls13"], false),
    (0x0020, &["brainpoolP384r1tls13"], false),
    (0x0021, &["brainpoolP512r1tls13"], false),
    (0x0100, &["ffdhe2048"], false),
    (0x0101, &["ffdhe3072"], false),
    (0x0102, &["ffdhe4096"], false),
    (0x0103, &["ffdhe6144"], false),
    (0x0104, &["ffdhe8192"], false),
    (0x0200, &["MLKEM512"], false),
    (0x0201, &["MLKEM768"], true),
    (0x0202, &["MLKEM1024"], true),
    (0x11eb, &["SecP256r1MLKEM768"], true),
    (0x11ec, &["X25519MLKEM768"], true),
    (0x11ed, &["SecP384r1MLKEM1024"], false),
];

/// What a text has chosen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// IANA's numbers, the best first. It may be empty.
    pub chosen: Vec<u16>,
    /// Groups that are not there.
    pub missing: Vec<String>,
    /// Words that are no groups.
    pub unknown: Vec<String>,
}

/// The groups of `ssl_ecdh_curve`: names with colons between them, also with the signs of OpenSSL 3.5 (`?` may be
/// missing, `*` is guessed by clients, `/` begins the less wanted ones).
pub fn groups(text: &str) -> Groups {
    let mut groups = Groups::default();
    for word in text.split([':', '/']) {
        let name = word.trim_start_matches(['?', '*']);
        let may_be_missing = word[..word.len() - name.len()].contains('?');
        if matches!(name, "auto" | "DEFAULT") {
            groups.chosen.extend(DEFAULT_GROUPS);
            continue;
        }
        let known = GROUPS.iter().find(|(_, names, _)| names.iter().any(|n| n.eq_ignore_ascii_case(name)));
        match known {
            Some((number, _, true)) if groups.chosen.contains(number) => {}
            Some((number, _, true)) => groups.chosen.push(*number),
            Some((_, names, false)) => groups.missing.push(names[0].to_owned()),
            None if may_be_missing => groups.missing.push(name.to_owned()),
            None => groups.unknown.push(name.to_owned()),
        }
    }
    groups
}

/// The name of a group.
pub fn group_name(number: u16) -> Option<&'static str> {
    GROUPS.iter().find(|(n, ..)| *n == number).map(|(_, names, _)| names[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_known_by_all_their_names() {
        assert_eq!(groups("auto").chosen, [0x11ec, 0x001d, 0x0017, 0x0018], "the hybrid one first");
        assert_eq!(groups("X25519:P-256:secp256r1:secp384r1").chosen, [0x001d, 0x0017, 0x0018]);
        assert_eq!(groups("?*X25519MLKEM768:x25519/?nosuch").chosen, [0x11ec, 0x001d]);
        assert_eq!(groups("P-521").missing, ["secp521r1"]);
        assert_eq!(groups("X25519:nonsense").unknown, ["nonsense"]);
    }
}
