//! nginx's configuration language: words, directives, blocks and includes, with the place of every token.
//!
//! [`parse`] reads a main file and all that it includes through a [`Loader`], keeps the texts in [`Sources`],
//! and reports every syntax error of the whole set in one run. What the directives mean is not known here.
//!
//! ```
//! use conf_syntax::{MemoryLoader, Sources, parse};
//!
//! let mut loader = MemoryLoader::default();
//! loader.insert("/etc/site.conf", "http { include sites/*.conf; }");
//! loader.insert("/etc/sites/shop.conf", "server { listen 80; server_name shop.example; }");
//! let mut sources = Sources::default();
//! let parsed = parse(&mut sources, "/etc/site.conf".as_ref(), &mut loader);
//! assert!(parsed.errors.is_empty());
//!
//! let http = parsed.directives(&sources).first().unwrap();
//! let server = http.block.unwrap().directives.first().unwrap();
//! for directive in server.block.unwrap().directives {
//!     match directive.name.value {
//!         b"listen" => assert_eq!(directive.args.array::<1>().unwrap()[0].value, b"80"),
//!         name => assert_eq!(name, b"server_name"),
//!     }
//! }
//! ```
#![forbid(unsafe_code)]

mod error;
mod glob;
mod invisible;
mod lexer;
mod loader;
mod lua;
mod parser;
mod source;
mod tree;
mod value;

pub use error::{Related, SyntaxError, SyntaxErrorKind};
pub use invisible::{Lookalike, lookalike};
pub use loader::{DiskLoader, Loader, MemoryLoader};
pub use parser::{Limits, parse, parse_option, parse_with_limits};
pub use source::{Excerpt, FileId, Location, Sources, Span};
pub use tree::{Args, ArgsIter, Block, Directive, Directives, DirectivesIter, Parsed, Quoting, Word};
pub use value::{Part, PartKind, Parts, ValueError, parts, quote};
