//! Characters that look like those of the language and are others: word processors, web pages and chats put them
//! into what is copied. To nginx they are letters.

/// A character that looks like another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookalike {
    /// Where it begins, in bytes.
    pub at: usize,
    /// The character.
    pub character: char,
    /// What it is called.
    pub name: &'static str,
    /// What to write, for a sentence that begins with "write".
    pub instead: &'static str,
}

/// The first such character of `text`.
pub fn lookalike(text: &[u8]) -> Option<Lookalike> {
    if text.is_ascii() {
        return None;
    }
    let mut at = 0;
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if let Some((name, instead)) = known(character) {
                return Some(Lookalike { at, character, name, instead });
            }
            at += character.len_utf8();
        }
        at += chunk.invalid().len();
    }
    None
}

fn known(character: char) -> Option<(&'static str, &'static str)> {
    const SPACE: &str = "a plain space";
    const NOTHING: &str = "nothing in its place";
    Some(match character {
        '\u{a0}' | '\u{202f}' => ("no-break space", SPACE),
        '\u{2000}'..='\u{200a}' | '\u{205f}' => ("wide or narrow space", SPACE),
        '\u{3000}' => ("ideographic space", SPACE),
        '\u{200b}' | '\u{2060}' => ("zero-width character", NOTHING),
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => ("mark of a text's direction", NOTHING),
        '\u{ad}' => ("soft hyphen", NOTHING),
        '\u{feff}' => ("byte order mark", NOTHING),
        '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{ff02}' => ("typographic quote", "`\"`"),
        '\u{2018}'..='\u{201b}' | '\u{ff07}' => ("typographic quote", "`'`"),
        '\u{ff1b}' | '\u{37e}' => ("semicolon of another script", "`;`"),
        '\u{ff5b}' => ("full-width brace", "`{`"),
        '\u{ff5d}' => ("full-width brace", "`}`"),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => ("typographic dash", "`-`"),
        _ => return None,
    })
}

impl Lookalike {
    /// Whether nobody puts it there on purpose, in this word: a letter in the midst of a word may well be a text's own,
    /// and what no keyboard for ASCII has is at home in texts that are not.
    pub fn is_mistaken(&self, word: &[u8]) -> bool {
        let end = self.at + self.character.len_utf8();
        match self.name {
            "typographic quote" => self.at == 0 || end == word.len(),
            "typographic dash" => false,
            "no-break space" => true,
            _ => word[..self.at].is_ascii() && word[end..].is_ascii(),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        let (name, number, instead) = (self.name, u32::from(self.character), self.instead);
        let shown = match self.instead {
            text if text.starts_with('`') => format!(" {}", self.character),
            _ => String::new(),
        };
        format!("there is a {name}{shown} (U+{number:04X}) in it: write {instead}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookalikes_are_found_and_named() {
        assert_eq!(lookalike(b"listen 80"), None);
        assert_eq!(lookalike("st\u{fc}ck \u{4f60}".as_bytes()), None);
        let found = lookalike("\u{fc}listen\u{a0}80".as_bytes()).unwrap();
        assert_eq!(found.at, 8);
        assert_eq!(found.help(), "there is a no-break space (U+00A0) in it: write a plain space");
        let is_mistaken = |word: &str| lookalike(word.as_bytes()).unwrap().is_mistaken(word.as_bytes());
        assert!(is_mistaken("80\u{3000}") && is_mistaken("80\u{ff1b}") && is_mistaken("\u{201c}a\u{201d}"));
        assert!(!is_mistaken("\u{4f60}\u{3000}\u{597d}") && !is_mistaken("\u{4f60}\u{ff1b}"));
        assert!(!is_mistaken("a\u{201c}b"));
        let found = lookalike(b"\xff\xe2\x80\x9cx").unwrap();
        assert_eq!(found.at, 1);
        assert_eq!(found.help(), "there is a typographic quote \u{201c} (U+201C) in it: write `\"`");
    }
}
