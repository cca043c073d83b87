//! The parts of crypt(3)'s formats that no crate has: MD5-crypt, and the alphabet that it shares with SHA-crypt.

use md5::{Digest, Md5};
use sha_crypt::Params;

pub(super) const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Poul-Henning Kamp's MD5-crypt, the 22 characters behind the salt. Apache's differs by the magic, `$apr1$` for
/// `$1$`.
pub(super) fn md5_crypt(password: &[u8], salt: &[u8], magic: &[u8]) -> Vec<u8> {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for block in password.chunks(16) {
        outer.update(&inner[..block.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // Where a bit is set, a zero byte; that the original meant something else is part of the format now.
        outer.update(if bits & 1 == 1 { &[0][..] } else { &password[..1] });
        bits >>= 1;
    }
    let mut digest = outer.finalize();
    for round in 0..1000 {
        let mut md5 = Md5::new();
        let is_odd = round % 2 == 1;
        md5.update(if is_odd { password } else { &digest[..] });
        if round % 3 != 0 {
            md5.update(salt);
        }
        if round % 7 != 0 {
            md5.update(password);
        }
        md5.update(if is_odd { &digest[..] } else { password });
        digest = md5.finalize();
    }
    let mut text = Vec::with_capacity(22);
    for at in 0..5 {
        let third = if at == 4 { 5 } else { at + 12 };
        encode(&mut text, [digest[at], digest[at + 6], digest[third]], 4);
    }
    encode(&mut text, [0, 0, digest[11]], 2);
    text
}

/// SHA-crypt with SHA-256, the 43 characters behind the salt.
pub(super) fn sha256_crypt(password: &[u8], salt: &[u8], rounds: Params) -> Vec<u8> {
    let digest = sha_crypt::sha256_crypt(password, salt, rounds);
    let mut text = Vec::with_capacity(43);
    let mut at = [0, 10, 20];
    for _ in 0..10 {
        encode(&mut text, at.map(|at| digest[at]), 4);
        // The next three are one further each, and change places.
        at = [at[2] + 1, at[0] + 1, at[1] + 1];
    }
    encode(&mut text, [0, digest[31], digest[30]], 3);
    text
}

/// SHA-crypt with SHA-512, the 86 characters behind the salt.
pub(super) fn sha512_crypt(password: &[u8], salt: &[u8], rounds: Params) -> Vec<u8> {
    let digest = sha_crypt::sha512_crypt(password, salt, rounds);
    let mut text = Vec::with_capacity(86);
    let mut at = [0, 21, 42];
    for _ in 0..21 {
        encode(&mut text, at.map(|at| digest[at]), 4);
        at = [at[1] + 1, at[2] + 1, at[0] + 1];
    }
    encode(&mut text, [0, 0, digest[63]], 2);
    text
}

/// Six bits a character, the lowest first.
fn encode(text: &mut Vec<u8>, bytes: [u8; 3], characters: usize) {
    let [high, middle, low] = bytes.map(u32::from);
    let mut bits = high << 16 | middle << 8 | low;
    for _ in 0..characters {
        text.push(ALPHABET[(bits & 0x3f) as usize]);
        bits >>= 6;
    }
}
