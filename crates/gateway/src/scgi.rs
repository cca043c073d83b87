//! SCGI: a netstring of variables, and behind it the body as it is.

use crate::Variable;

/// The netstring. `CONTENT_LENGTH` comes first, as it has to.
pub fn request<'a>(content_length: u64, variables: impl Iterator<Item = Variable<'a>>) -> Vec<u8> {
    let mut list = format!("CONTENT_LENGTH\0{content_length}\0").into_bytes();
    for (name, value) in variables {
        for text in [name, value] {
            // What ends a text cannot stand in it.
            list.extend(text.iter().filter(|byte| **byte != 0));
            list.push(0);
        }
    }
    let mut out = format!("{}:", list.len()).into_bytes();
    out.append(&mut list);
    out.push(b',');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netstring() {
        let variables = [(&b"SCGI"[..], &b"1"[..]), (b"A", b"b\0c")];
        assert_eq!(request(7, variables.into_iter()), b"29:CONTENT_LENGTH\x007\0SCGI\x001\0A\0bc\0,");
    }
}
