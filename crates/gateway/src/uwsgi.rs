//! uwsgi: a packet of variables, and behind it the body as it is.

use crate::{TooBig, Variable};

/// A packet: four bytes with its length between the modifiers, the variables, and `string` behind them.
pub fn request<'a>(
    modifiers: (u8, u8),
    variables: impl Iterator<Item = Variable<'a>>,
    string: &[u8],
) -> Result<Vec<u8>, TooBig> {
    let mut out = vec![modifiers.0, 0, 0, modifiers.1];
    for (name, value) in variables {
        for text in [name, value] {
            let length = u16::try_from(text.len()).map_err(|_| TooBig(text.len()))?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(text);
        }
    }
    out.extend_from_slice(string);
    let length = u16::try_from(out.len() - 4).map_err(|_| TooBig(out.len() - 4))?;
    out[1..3].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet() {
        let variables = [(&b"A"[..], &b"bc"[..]), (b"D", b"")];
        let packet = request((1, 2), variables.into_iter(), b"!").unwrap();
        assert_eq!(packet, b"\x01\x0d\x00\x02\x01\x00A\x02\x00bc\x01\x00D\x00\x00!");
    }

    #[test]
    fn a_packet_has_64_kib_at_most() {
        let text = vec![b'x'; 65_530];
        assert!(request((0, 0), [(&b"A"[..], &text[..])].into_iter(), b"").is_ok());
        assert_eq!(request((0, 0), [(&b"A"[..], &text[..])].into_iter(), b"!"), Err(TooBig(65_536)));
        assert_eq!(
            request((0, 0), [(&b"A"[..], &vec![0; 65_536][..])].into_iter(), b""),
            Err(TooBig(65_536))
        );
    }
}
