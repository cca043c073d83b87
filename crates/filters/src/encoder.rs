//! The three compressors behind one face.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::rc::Rc;

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use exchange::Coding;
use flate2::{Compression, FlushCompress, Status};
use zstd::stream::raw::{CParameter, Encoder as Zstd, InBuffer, Operation, OutBuffer};

use crate::Levels;

/// Windows of 128 KiB (zstd) and 256 KiB (brotli): a page gains nothing from more, and thousands of streams
/// at once must fit into memory.
const ZSTD_WINDOW_LOG: u32 = 17;
/// Where the size of a body is not known zstd takes the tables of a large one, up to 80 MB. From this level on they are as
/// large as zstd has them for bodies of the window's size; below they are no larger by themselves.
const ZSTD_BOUNDED_LEVEL: u32 = 4;
const ZSTD_HASH_LOG: u32 = 17;
const ZSTD_CHAIN_LOG: u32 = 18;
const BROTLI_WINDOW_LOG: i32 = 18;
/// zlib-rs at level 1 gives a quarter to a half more bytes than zlib, which nginx has; at level 2 as many.
const GZIP_LEAST: u32 = 2;
const GROW: usize = 16 * 1024;
/// Contexts kept for the next response, of each kind.
const MAX_SPARE: usize = 4;

/// Contexts that are not in use. Brotli has no reset; its context is made anew each time.
#[derive(Default)]
pub struct Spare {
    zstd: Vec<Zstd<'static>>,
    gzip: Vec<flate2::Compress>,
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spare({} zstd, {} gzip)", self.zstd.len(), self.gzip.len())
    }
}

enum Context {
    Zstd(Zstd<'static>),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Gzip(flate2::Compress, Crc),
    Done,
}

/// Head of a gzip member without name and time, and the running values of its trailer (RFC 1952).
#[derive(Default)]
struct Crc {
    started: bool,
    sum: flate2::Crc,
}

/// Compresses one body. What is compressed gathers inside until [`Encoder::take`].
pub struct Encoder {
    context: Context,
    out: Vec<u8>,
    spare: Rc<RefCell<Spare>>,
}

impl Encoder {
    /// For a body of `size` bytes, if that is known.
    pub fn new(
        coding: Coding,
        levels: Levels,
        size: Option<u64>,
        spare: &Rc<RefCell<Spare>>,
    ) -> io::Result<Self> {
        let context = match coding {
            Coding::Zstd => {
                let kept = spare.borrow_mut().zstd.pop();
                let mut zstd = if let Some(zstd) = kept {
                    zstd
                } else {
                    let mut zstd = Zstd::new(levels.zstd as i32)?;
                    zstd.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
                    if levels.zstd >= ZSTD_BOUNDED_LEVEL {
                        zstd.set_parameter(CParameter::HashLog(ZSTD_HASH_LOG))?;
                        zstd.set_parameter(CParameter::ChainLog(ZSTD_CHAIN_LOG))?;
                    }
                    zstd
                };
                zstd.set_pledged_src_size(size)?;
                Context::Zstd(zstd)
            }
            Coding::Br => {
                let hint = size.unwrap_or(0) as usize;
                // No window larger than the body.
                let needed = hint.checked_next_power_of_two().map_or(0, usize::ilog2) as i32 + 1;
                let lgwin = if hint == 0 { BROTLI_WINDOW_LOG } else { needed.clamp(10, BROTLI_WINDOW_LOG) };
                let params = BrotliEncoderParams {
                    quality: levels.br as i32,
                    lgwin,
                    size_hint: hint,
                    ..BrotliEncoderParams::default()
                };
                Context::Br(Box::new(CompressorWriter::with_params(Vec::new(), 4096, &params)))
            }
            Coding::Gzip => {
                let kept = spare.borrow_mut().gzip.pop();
                let level = Compression::new(levels.gzip.max(GZIP_LEAST));
                let deflate = kept.unwrap_or_else(|| flate2::Compress::new(level, false));
                Context::Gzip(deflate, Crc::default())
            }
        };
        Ok(Self { context, out: Vec::new(), spare: Rc::clone(spare) })
    }

    /// A whole body at once.
    pub fn whole(mut self, body: &[u8]) -> io::Result<Bytes> {
        self.out.reserve(body.len() / 3 + 64);
        self.write(body)?;
        self.finish()?;
        Ok(self.take())
    }

    /// More of the body.
    pub fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        let out = &mut self.out;
        match &mut self.context {
            Context::Zstd(zstd) => {
                let mut input = InBuffer::around(data);
                while input.pos() < data.len() {
                    out.reserve(GROW);
                    let at = out.len();
                    zstd.run(&mut input, &mut OutBuffer::around_pos(out, at))?;
                }
            }
            Context::Br(writer) => {
                writer.write_all(data)?;
                out.append(writer.get_mut());
            }
            Context::Gzip(deflate, crc) => {
                crc.start(out);
                crc.sum.update(data);
                while !data.is_empty() {
                    out.reserve(GROW);
                    let before = deflate.total_in();
                    deflate.compress_vec(data, out, FlushCompress::None).map_err(io::Error::other)?;
                    data = &data[(deflate.total_in() - before) as usize..];
                }
            }
            Context::Done => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }

    /// Makes everything written so far decodable from what [`Encoder::take`] yields.
    pub fn flush(&mut self) -> io::Result<()> {
        let out = &mut self.out;
        match &mut self.context {
            Context::Zstd(zstd) => loop {
                out.reserve(GROW);
                let at = out.len();
                if zstd.flush(&mut OutBuffer::around_pos(out, at))? == 0 {
                    break;
                }
            },
            Context::Br(writer) => {
                writer.flush()?;
                out.append(writer.get_mut());
            }
            Context::Gzip(deflate, crc) => {
                crc.start(out);
                // Room left over means that nothing is held back (zlib's manual on Z_SYNC_FLUSH).
                loop {
                    out.reserve(GROW);
                    deflate.compress_vec(&[], out, FlushCompress::Sync).map_err(io::Error::other)?;
                    if out.len() < out.capacity() {
                        break;
                    }
                }
            }
            Context::Done => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }

    /// Ends the body. Nothing can be written afterwards.
    pub fn finish(&mut self) -> io::Result<()> {
        let out = &mut self.out;
        match mem::replace(&mut self.context, Context::Done) {
            Context::Zstd(mut zstd) => {
                loop {
                    out.reserve(GROW);
                    let at = out.len();
                    if zstd.finish(&mut OutBuffer::around_pos(out, at), true)? == 0 {
                        break;
                    }
                }
                self.keep(Context::Zstd(zstd));
            }
            Context::Br(writer) => out.append(&mut writer.into_inner()),
            Context::Gzip(mut deflate, mut crc) => {
                crc.start(out);
                loop {
                    out.reserve(GROW);
                    let status =
                        deflate.compress_vec(&[], out, FlushCompress::Finish).map_err(io::Error::other)?;
                    if status == Status::StreamEnd {
                        break;
                    }
                }
                out.extend_from_slice(&crc.sum.sum().to_le_bytes());
                out.extend_from_slice(&crc.sum.amount().to_le_bytes());
                self.keep(Context::Gzip(deflate, crc));
            }
            Context::Done => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }

    /// Bytes waiting to be taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// What has been compressed since the last time.
    pub fn take(&mut self) -> Bytes {
        let mut out = mem::take(&mut self.out);
        // The buffer grows ahead of need; what is queued for a slow client should not hold the slack.
        if out.capacity() > out.len() * 2 {
            out.shrink_to_fit();
        }
        out.into()
    }

    fn keep(&self, context: Context) {
        let mut spare = self.spare.borrow_mut();
        match context {
            Context::Zstd(mut zstd) => {
                let reset = zstd.reinit();
                if spare.zstd.len() < MAX_SPARE && reset.is_ok() {
                    spare.zstd.push(zstd);
                }
            }
            Context::Gzip(mut deflate, _) if spare.gzip.len() < MAX_SPARE => {
                deflate.reset();
                spare.gzip.push(deflate);
            }
            _ => {}
        }
    }
}

impl Drop for Encoder {
    /// A client that left does not cost the next one a new context, but for gzip: zlib-rs's reset leaves at
    /// level 1 the block open that a broken off body was in, and the next body would not decompress.
    fn drop(&mut self) {
        let context = mem::replace(&mut self.context, Context::Done);
        if let Context::Zstd(_) = context {
            self.keep(context);
        }
    }
}

impl Crc {
    fn start(&mut self, out: &mut Vec<u8>) {
        if !mem::replace(&mut self.started, true) {
            // ID1 ID2, deflate, no flags, no time, no extra flags, unknown system.
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        }
    }
}
