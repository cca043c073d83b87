//! `gunzip`: for clients that do not take what is stored compressed.

use std::io::Write;

use exchange::{Body, Fields, Method, Name, Request, Response, StreamError};
use flate2::write::MultiGzDecoder;

use super::pump::{self, Change};
use super::weaken;

/// Whether the body is compressed with gzip, and with nothing else.
pub fn is_gzip(fields: &Fields) -> bool {
    fields.only(Name::ContentEncoding).is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip"))
}

/// Decompresses the body.
pub fn run(request: &Request, response: &mut Response) {
    for name in [Name::ContentEncoding, Name::ContentLength, Name::AcceptRanges] {
        response.fields.remove(name);
    }
    weaken(response);
    response.of_file = None;
    let body = std::mem::take(&mut response.body);
    response.body = if request.method == Method::Head {
        Body::Stream(Box::new(exchange::Nothing))
    } else {
        pump::change(body, Gunzip(MultiGzDecoder::new(Vec::new())))
    };
}

struct Gunzip(MultiGzDecoder<Vec<u8>>);

const BROKEN: StreamError = StreamError("the compressed response is damaged");

impl Change for Gunzip {
    /// A byte may become a thousand.
    const PIECE: usize = 4 * 1024;

    fn feed(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.0.write_all(data).map_err(|_| BROKEN)?;
        out.append(self.0.get_mut());
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.0.flush().map_err(|_| BROKEN)?;
        out.append(self.0.get_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.0.try_finish().map_err(|_| BROKEN)?;
        out.append(self.0.get_mut());
        Ok(())
    }
}
