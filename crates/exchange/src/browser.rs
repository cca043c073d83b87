//! The few browsers that a server treats in a way of their own, by `User-Agent`.

/// Which of them it is. None of the flags is set for all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Browser {
    /// Internet Explorer, or what says so.
    pub msie: bool,
    /// Its versions 4 to 6, without the mending of Service Pack 2.
    pub msie6: bool,
    /// Chrome and what is made of it.
    pub chrome: bool,
    /// Safari on a Mac.
    pub safari: bool,
}

impl Browser {
    /// Tells by the same words as nginx.
    pub fn of(user_agent: &[u8]) -> Self {
        let find = |word: &[u8]| user_agent.windows(word.len()).position(|part| part == word);
        let opera = find(b"Opera").is_some();
        let version = find(b"MSIE ").map(|at| &user_agent[at + 5..]).filter(|rest| rest.len() > 2);
        if opera {
            return Self::default();
        }
        if let Some(version) = version {
            let old = match version {
                [b'4' | b'5', b'.', ..] => true,
                [b'6', b'.', rest @ ..] => !rest.windows(3).any(|part| part == b"SV1"),
                _ => false,
            };
            return Self { msie: true, msie6: old, ..Self::default() };
        }
        if find(b"Gecko/").is_some() {
            return Self::default();
        }
        let chrome = find(b"Chrome/").is_some();
        let safari = !chrome && find(b"Safari/").is_some() && find(b"Mac OS X").is_some();
        Self { chrome, safari, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        let none = Browser::default();
        let msie = Browser { msie: true, ..none };
        for (agent, browser) in [
            ("", none),
            ("curl/8", none),
            ("MSIE 5.0", Browser { msie6: true, ..msie }),
            ("MSIE foo", msie),
            ("MSIE 7", none),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)", Browser { msie6: true, ..msie }),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)", msie),
            ("Mozilla/4.0 (compatible; MSIE 6.0) Opera 7", none),
            ("Mozilla/5.0 Chrome/120.0 Safari/537.36 Mac OS X", Browser { chrome: true, ..none }),
            ("Mac OS X Safari/7534.48.3", Browser { safari: true, ..none }),
            ("Mozilla/5.0 (Macintosh; Mac OS X) Gecko/2010 Safari/1", none),
        ] {
            assert_eq!(Browser::of(agent.as_bytes()), browser, "{agent}");
        }
    }
}
