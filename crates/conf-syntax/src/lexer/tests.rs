use super::*;

/// Words with their escapes resolved, signs as themselves.
fn tokens(text: &str) -> Vec<String> {
    let mut lexer = Lexer::new(text.as_bytes(), 0, 64);
    let mut found = Vec::new();
    loop {
        found.push(match lexer.next() {
            Token::Word { start, end, escaped } => {
                let mut value = Vec::new();
                unescape(&text.as_bytes()[start..end], &mut value);
                assert_eq!(escaped, text[start..end].contains('\\'));
                String::from_utf8(value).unwrap()
            }
            Token::Semicolon => ";".into(),
            Token::Open => "{".into(),
            Token::Close => "}".into(),
            Token::NoSpace => "no space".into(),
            token @ (Token::Unterminated { .. } | Token::TooLong { .. }) => {
                found.push(format!("{token:?}"));
                return found;
            }
            Token::End => return found,
        });
    }
}

#[test]
fn words_end_at_white_space_semicolon_and_opening_brace() {
    assert_eq!(tokens("a b\tc\r\nd;e{f}g }"), ["a", "b", "c", "d", ";", "e", "{", "f}g", "}"]);
}

#[test]
fn quotes_and_hashes_count_at_the_beginning_of_a_word_only() {
    assert_eq!(tokens("a\"b c' d#e # f\ng"), ["a\"b", "c'", "d#e", "g"]);
    assert_eq!(tokens("\"a # ; { } '\" '\"'"), ["\"a # ; { } '\"", "'\"'"]);
}

#[test]
fn behind_a_closing_quote_only_space_and_signs() {
    assert_eq!(tokens("'a';'b'{'c' 'd'\n'e')"), ["'a'", ";", "'b'", "{", "'c'", "'d'", "'e'", ")"]);
    assert_eq!(tokens("'a'b;"), ["'a'", "no space", "b", ";"]);
    assert_eq!(tokens("'a'#b\n;"), ["'a'", "no space", ";"]);
    assert_eq!(tokens("'a''b'"), ["'a'", "no space", "'b'"]);
}

#[test]
fn braces_behind_a_dollar_belong_to_the_word() {
    assert_eq!(tokens("${a}b{c"), ["${a}b", "{", "c"]);
    assert_eq!(tokens("$a{ x${{y}} $ {"), ["$a", "{", "x${{y}}", "$", "{"]);
    // The backslash ends what the dollar began, and takes the brace itself.
    assert_eq!(tokens(r"$\{a"), [r"$\{a"]);
}

#[test]
fn a_backslash_takes_the_next_byte_into_the_word() {
    assert_eq!(tokens(r"a\ b\;c\{d"), [r"a\ b\;c\{d"]);
    assert_eq!(tokens(r#"\"a b"#), ["\"a", "b"]);
    assert_eq!(tokens(r"a\\ b"), [r"a\", "b"]);
    assert_eq!(tokens(r"\.php$ x\t\d"), [r"\.php$", "x\t\\d"]);
    assert_eq!(tokens(r"\#a"), [r"\#a"]);
    assert_eq!(tokens("a\\"), ["a\\"]);
}

#[test]
fn unterminated_and_long_words() {
    assert_eq!(tokens("a 'b ; c"), ["a", "Unterminated { start: 2, quote: 39 }"]);
    assert_eq!(tokens(r#""\""#), ["Unterminated { start: 0, quote: 34 }"]);
    assert_eq!(tokens("\"\\"), ["Unterminated { start: 0, quote: 34 }"]);
    assert_eq!(tokens(&"x".repeat(64)), ["x".repeat(64)]);
    assert_eq!(tokens(&"x".repeat(65)), ["TooLong { start: 0, quote: None }"]);
    assert_eq!(tokens(&format!("'{}", "x".repeat(65))), ["TooLong { start: 0, quote: Some(39) }"]);
}

#[test]
fn escapes_resolve_as_in_nginx() {
    let mut out = Vec::new();
    unescape(br#"\"\'\\\t\r\n\d\ \"#, &mut out);
    assert_eq!(out, b"\"'\\\t\r\n\\d\\ \\");
}
