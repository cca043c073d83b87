//! Just enough of the zip format (APPNOTE 6.3) for Python's zipimport: stored files, no time, no attributes.

use std::num::TryFromIntError;

/// 1 January 1980, the format's first day.
const DATE: u16 = 1 << 5 | 1;
const VERSION: u16 = 10;

/// An archive of these files.
pub fn archive(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, TryFromIntError> {
    let mut archive = vec![];
    let mut directory = vec![];
    for (name, contents) in files {
        let offset = u32::try_from(archive.len())?;
        let common = common(name, contents)?;
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(contents);
        directory.extend(b"PK\x01\x02");
        directory.extend(VERSION.to_le_bytes());
        directory.extend(&common);
        // No comment, first disk, no attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(files.len())?.to_le_bytes();
    let offset = u32::try_from(archive.len())?;
    let size = u32::try_from(directory.len())?;
    archive.extend(directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count);
    archive.extend(count);
    archive.extend(size.to_le_bytes());
    archive.extend(offset.to_le_bytes());
    archive.extend([0; 2]);
    Ok(archive)
}

/// What a file's own header and its entry in the directory share.
fn common(name: &str, contents: &[u8]) -> Result<Vec<u8>, TryFromIntError> {
    let mut header = vec![];
    let size = u32::try_from(contents.len())?.to_le_bytes();
    header.extend(VERSION.to_le_bytes());
    // No flags, stored, midnight.
    header.extend([0; 6]);
    header.extend(DATE.to_le_bytes());
    header.extend(crc32(contents).to_le_bytes());
    header.extend(size);
    header.extend(size);
    header.extend(u16::try_from(name.len())?.to_le_bytes());
    header.extend([0; 2]);
    Ok(header)
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}
