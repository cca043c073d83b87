//! Known answers: of SHA-crypt's specification, of nginx's and Apache's documentation, and of libxcrypt and OpenSSL.

use proptest::prelude::*;

use super::*;

fn verify(stored: &str, password: &str) -> bool {
    let parsed = Password::parse(stored.as_bytes()).unwrap_or_else(|error| panic!("{stored}: {error}"));
    parsed.verify(password.as_bytes())
}

#[test]
fn known_answers() {
    let long = "a".repeat(200);
    let blocks = "Hello world!".repeat(9);
    for (password, stored) in [
        ("secret", "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"),
        ("secret", "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"),
        ("secret", "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"),
        ("", "$2b$04$......................w74bL5gU7LSJClZClCa.Pkz14aTv/XO"),
        ("secret", "$apr1$Xq9.k/3A$dn561kmVA6QWFeDqbmX0I."),
        ("", "$apr1$Xq9.k/3A$OHJcIgThy1W152volWrxz."),
        ("correct horse battery staple over sixteen", "$apr1$Xq9.k/3A$l04BG9op/bv5jO9oJL0LW/"),
        ("x", "$apr1$ab$eIePjsejfBGR8ITtu2z0U1"),
        ("secret", "$1$abcd1234$7UDmmrvkSWiZ25tt6ubAq/"),
        ("", "$1$x$fwjfZtMwarkdetsjiQreU1"),
        (&blocks, "$1$12345678$USm0hquaWUYKnjUKYiQbZ."),
        ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        ("Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
        ("x", "$5$rounds=1000$s$eeQSk6gfU9BRZYJReoVWuVaNAzKa371bg9tNLHdX.v7"),
        ("x", "$5$$0Uor7kq6CTPY0DtjOiw.I2DuJSUfiZxCqkrafMVjNc8"),
        (&long, "$5$salt$/szULkP5F3h8cW0jtBolNDfIVOi8/BmpUz6cpNrgbP7"),
        (
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            "Hello world!",
            "$6$rounds=1400$anotherlongsalts$5FGyu8c4BZDX4wJgs0Un26YOw2XibT5eTkHF1I1aP3QqStoJI9BHD2YPJYsAjEePVGUyBjdZxcNqMWlrrbIOC.",
        ),
        (
            "",
            "$6$salt$r6qPcj2UeIkfklWHvleGJk8OKTInFYR/fxyuwcC656IWiZBpIFZ9.hMRG2ZQnnyMFrKOe461f9iT9Ljn0wJ5l.",
        ),
        ("é£", "$6$x$twI7DFD97XNhBCXphaacDFFJ5BK6BQRHDD25r2yY7kUW8mkLslcc8uU7DASVimWasI.YYtygGuRdZKGb9yb3v0"),
        ("secret", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("secret", "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0"),
        ("secret", "{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("secret", "rqkgm0IXRZd2Y"),
        ("secret", "{PLAIN}secret"),
        ("", "{PLAIN}"),
    ] {
        assert!(verify(stored, password), "{password:?} is {stored}");
        assert!(!verify(stored, &format!("{password}x")), "{stored}");
        assert!(!verify(stored, "Secret"), "{stored}");
        let mut altered = stored.to_owned();
        let last = altered.pop();
        // The last character of a SHA-1 is padding, and that before it carries bits.
        if last == Some('=') {
            altered.pop();
        }
        altered.push(if stored.ends_with("Q=") || last == Some('A') { 'B' } else { 'A' });
        let still =
            Password::parse(altered.as_bytes()).is_ok_and(|stored| stored.verify(password.as_bytes()));
        assert!(!still || stored.starts_with("$2"), "{password:?} is not {altered}");
    }
}

#[test]
fn bcrypt_reads_72_bytes() {
    let stored = "$2b$04$......................SZFhVdUK5wGKY4lx/QrgUMHG0XsWjbi";
    assert!(verify(stored, &"x".repeat(80)));
    assert!(verify(stored, &"x".repeat(72)));
    assert!(!verify(stored, &"x".repeat(71)));
}

#[test]
fn a_nul_does_not_end_a_password() {
    for stored in ["{PLAIN}secret", "$apr1$Xq9.k/3A$dn561kmVA6QWFeDqbmX0I."] {
        assert!(!verify(stored, "secret\0"), "{stored}");
        assert!(!verify(stored, "secret\0x"), "{stored}");
    }
}

#[test]
fn a_password_without_end_is_refused_before_it_is_hashed() {
    let longest = "a".repeat(LONGEST_PASSWORD);
    assert!(verify(&format!("{{PLAIN}}{longest}"), &longest));
    let longer = format!("{longest}a");
    assert!(!verify(&format!("{{PLAIN}}{longer}"), &longer));
}

#[test]
fn nobody_proves_a_locked_password() {
    for stored in ["", "*", "!", "!$apr1$Xq9.k/3A$dn561kmVA6QWFeDqbmX0I."] {
        for password in ["", "*", "!", "secret"] {
            assert!(!verify(stored, password), "{stored:?}");
        }
    }
}

#[test]
fn nobody_proves_a_password_that_was_cut() {
    for stored in [
        "$apr1$",
        "$apr1$Xq9.k/3A",
        "$apr1$Xq9.k/3A9$dn561kmVA6QWFeDqbmX0I.",
        "$apr1$Xq9.k/3A$dn561kmVA6QWFeDqbmX0I",
        "$1$",
        "$5$rounds=999$s$eeQSk6gfU9BRZYJReoVWuVaNAzKa371bg9tNLHdX.v7",
        "$5$rounds=01000$s$eeQSk6gfU9BRZYJReoVWuVaNAzKa371bg9tNLHdX.v7",
        "$5$rounds=1000",
        "$6$salt$short",
        "{SSHA}5en6G6MezRroT3XKqkdPOmY/",
        "{SHA}Zm9vCg==",
    ] {
        for password in ["", "secret", "x", "foo\n", "1"] {
            assert!(!verify(stored, password), "{stored}");
        }
    }
}

#[test]
fn forms_that_are_not_supported_are_named() {
    for stored in [
        "secret",
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
        "$2x$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
        "$2b$03$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
        "$2b$32$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
        "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIr",
        "{MD5}XrY7u+Ae7tCTyyK7j1rNww==",
    ] {
        assert_eq!(Password::parse(stored.as_bytes()), Err(UnsupportedPassword::Unknown), "{stored}");
    }
}

#[test]
fn only_hashes_that_are_meant_to_be_slow_are() {
    for (stored, expected) in [
        ("$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", true),
        ("$apr1$Xq9.k/3A$dn561kmVA6QWFeDqbmX0I.", true),
        ("$5$$0Uor7kq6CTPY0DtjOiw.I2DuJSUfiZxCqkrafMVjNc8", true),
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", false),
        ("{PLAIN}x", false),
        ("!", false),
    ] {
        assert_eq!(Password::parse(stored.as_bytes()).unwrap().is_slow(), expected, "{stored}");
    }
}

#[test]
fn a_stored_password_is_not_shown() {
    let password = Password::parse(b"{PLAIN}secret").unwrap();
    assert_eq!(format!("{password:?}"), "Password({PLAIN})");
}

proptest! {
    #[test]
    fn no_text_that_is_stored_panics(
        form in "(\\$(1|5|6|2[aby]|apr1)\\$|\\{(SHA|SSHA|PLAIN)\\})?(rounds=1[0-9]{3}\\$)?",
        rest in prop_oneof!["[./A-Za-z0-9$]{0,60}", "[ -~]{0,60}"],
        password in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        // A cost of more than 4 would take minutes here.
        let stored = format!("{form}{rest}");
        prop_assume!(!form.starts_with("$2") || stored[4..].starts_with("04"));
        if let Ok(stored) = Password::parse(stored.as_bytes()) {
            stored.verify(&password);
        }
    }
}
