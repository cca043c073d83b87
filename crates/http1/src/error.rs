//! What is wrong with what a peer sent. Each variant is a sentence for the log and a status for the peer;
//! after any of them the connection cannot be used for another request, because nobody knows where one
//! would begin.

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// More empty lines before the request line than a confused client would send.
    #[error("too many empty lines before the request line")]
    LeadingEmptyLines,
    /// The request line is longer than [`crate::Limits::request_line`].
    #[error("request line too long")]
    RequestLineTooLong,
    /// More field lines than [`crate::Limits::fields`].
    #[error("too many header fields")]
    TooManyFields,
    /// A field line longer than [`crate::Limits::field_size`].
    #[error("header field too long")]
    FieldTooLong,
    /// A head longer than [`crate::Limits::head`].
    #[error("request head too long")]
    HeadTooLong,
    /// A line feed without its carriage return (RFC 9112 §2.2 lets a recipient accept it; parties that do
    /// and parties that don't see different messages), without [`crate::Policy::bare_lf`].
    #[error("line feed without carriage return")]
    BareLf,
    /// Not method, space, target, space, version.
    #[error("malformed request line")]
    RequestLine,
    /// The method is not a token, too long, or not as the policy wants it.
    #[error("invalid method")]
    Method,
    /// The target holds a byte that no target has.
    #[error("invalid character in request target")]
    TargetByte,
    /// The target is none of the forms of RFC 9112 §3.2, or not one that its method may have.
    #[error("malformed request target")]
    Target,
    /// No HTTP version at all, among them the request line of HTTP/0.9.
    #[error("malformed HTTP version")]
    MalformedVersion,
    /// An HTTP version that is neither 1.0 nor 1.1, among them the preface of HTTP/2.
    #[error("unsupported HTTP version")]
    Version,
    /// A field name that is empty, holds a byte that is no token character, or has white space before its
    /// colon (RFC 9112 §5.1).
    #[error("invalid header field name")]
    FieldName,
    /// A field value with a control byte, NUL or bare CR in it.
    #[error("invalid character in header field value")]
    FieldValue,
    /// A line that continues the field line before it (RFC 9112 §5.2).
    #[error("folded header field line")]
    ObsFold,
    /// A field name with an underscore, under [`crate::UnderscoreFields::Refuse`].
    #[error("header field name with an underscore")]
    Underscore,
    /// An HTTP/1.1 request without Host (RFC 9112 §3.2).
    #[error("missing Host header field")]
    HostMissing,
    /// More than one Host field line.
    #[error("more than one Host header field")]
    HostRepeated,
    /// A Host value that is no `uri-host [":" port]`.
    #[error("malformed Host header field")]
    HostMalformed,
    /// A Content-Length that is not a plain decimal number below 2^63.
    #[error("malformed Content-Length")]
    ContentLength,
    /// More than one Content-Length field line, alike or not.
    #[error("more than one Content-Length")]
    ContentLengthRepeated,
    /// Both Content-Length and Transfer-Encoding (RFC 9112 §6.3).
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// More than one Transfer-Encoding field line, or `chunked` twice.
    #[error("more than one Transfer-Encoding")]
    TransferEncodingRepeated,
    /// A Transfer-Encoding whose last coding is not `chunked`, or that is no list of codings.
    #[error("Transfer-Encoding does not end in chunked")]
    TransferEncoding,
    /// A transfer coding before `chunked` that this codec does not undo.
    #[error("unsupported transfer coding")]
    TransferCoding,
    /// A Transfer-Encoding in an HTTP/1.0 request (RFC 9112 §6.1).
    #[error("Transfer-Encoding in an HTTP/1.0 request")]
    TransferEncodingVersion,
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    #[error("unknown expectation")]
    Expectation,
    /// More than one Expect field line, of which one is not `100-continue`.
    #[error("more than one expectation")]
    ExpectationRepeated,
}

impl HeadError {
    /// The status code to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Self::RequestLineTooLong => 414,
            Self::Expectation => 417,
            Self::TooManyFields | Self::FieldTooLong | Self::HeadTooLong => 431,
            Self::TransferCoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkedError {
    /// No hexadecimal digit where a chunk size begins, or something else than `;` or CRLF after one: a
    /// sign, white space, a prefix, a bare CR or LF.
    #[error("malformed chunk size")]
    Size,
    /// A chunk size above 2^63 - 1 or of more than 16 digits.
    #[error("chunk size too large")]
    SizeOverflow,
    /// A chunk extension that is not `;name`, `;name=token` or `;name="string"`.
    #[error("malformed chunk extension")]
    Extension,
    /// Chunk extensions beyond [`crate::Limits::chunk_extension`] or
    /// [`crate::Limits::chunk_extensions_total`].
    #[error("chunk extensions too long")]
    ExtensionsTooLong,
    /// The data of a chunk is not followed by CRLF.
    #[error("chunk data not followed by CRLF")]
    DataEnd,
    /// A line feed without its carriage return in the trailer section.
    #[error("line feed without carriage return in trailer section")]
    TrailerBareLf,
    /// A trailer field line that is no field line.
    #[error("malformed trailer field")]
    Trailer,
    /// A trailer section with more or longer fields than the limits say.
    #[error("trailer section too long")]
    TrailersTooLong,
}

impl ChunkedError {
    /// The status code to answer with, when there is still an answer to give.
    pub const fn status(self) -> u16 {
        match self {
            Self::TrailersTooLong => 431,
            _ => 400,
        }
    }
}
