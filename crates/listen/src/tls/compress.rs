//! Certificates that are sent compressed (RFC 8879), by the compressors that responses have too.

use std::io::Write;

use brotli::CompressorWriter;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use rustls::CertificateCompressionAlgorithm as Algorithm;
use rustls::compress::{CertCompressor, CompressionFailed, CompressionLevel};

/// The best first; the library takes the first that the client knows.
pub(super) const ALL: [&dyn CertCompressor; 3] = [&Brotli, &Zstd, &Zlib];

#[derive(Debug)]
struct Brotli;

#[derive(Debug)]
struct Zstd;

#[derive(Debug)]
struct Zlib;

/// The library keeps what comes of it, so it may take its time, but not that much: the event loop waits.
const BROTLI_QUALITY: u32 = 9;
const ZSTD_LEVEL: i32 = 9;
/// A window of 64 KiB: chains are not longer.
const BROTLI_WINDOW_LOG: u32 = 16;

impl CertCompressor for Brotli {
    fn compress(&self, input: Vec<u8>, _: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        let mut writer = CompressorWriter::new(Vec::new(), 4096, BROTLI_QUALITY, BROTLI_WINDOW_LOG);
        writer.write_all(&input).map_err(|_| CompressionFailed)?;
        Ok(writer.into_inner())
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Brotli
    }
}

impl CertCompressor for Zstd {
    fn compress(&self, input: Vec<u8>, _: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        zstd::bulk::compress(&input, ZSTD_LEVEL).map_err(|_| CompressionFailed)
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Zstd
    }
}

impl CertCompressor for Zlib {
    fn compress(&self, input: Vec<u8>, _: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        let mut writer = ZlibEncoder::new(Vec::new(), Compression::best());
        writer.write_all(&input).map_err(|_| CompressionFailed)?;
        writer.finish().map_err(|_| CompressionFailed)
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Zlib
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let input: Vec<u8> = b"a certificate and one that is much like it; ".repeat(50);
        for compressor in ALL {
            let coded = compressor.compress(input.clone(), CompressionLevel::Amortized).unwrap();
            assert!(coded.len() < input.len() / 4, "{compressor:?}");
            let mut back = Vec::new();
            match compressor.algorithm() {
                Algorithm::Brotli => {
                    brotli::Decompressor::new(&*coded, 4096).read_to_end(&mut back).map(drop).unwrap();
                }
                Algorithm::Zstd => back = zstd::bulk::decompress(&coded, input.len()).unwrap(),
                _ => {
                    flate2::read::ZlibDecoder::new(&*coded).read_to_end(&mut back).map(drop).unwrap();
                }
            }
            assert_eq!(back, input, "{compressor:?}");
        }
    }
}
