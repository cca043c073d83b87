//! The response cache: zones that all event loops share, the files of what is kept, and what may be kept for how long.
//!
//! A [`Zone`] is an index in memory over files in a directory. What is kept lies in one file each ([`entry`]), made
//! beside its place and moved there when it is whole, with checksums over all of it: what is torn, or another
//! program's, is as good as not there. The index is made anew from the files when the process starts.
//!
//! Reading and writing files goes to the page cache from the thread that calls, as in nginx. What looks at many files
//! (loader, manager, purging) has a thread of its own.
#![forbid(unsafe_code)]

mod checksum;
pub mod entry;
mod fresh;
mod index;
mod keep;
mod key;
mod purge;
mod served;
mod store;
mod zone;

pub use entry::{Meta, Stored};
pub use fresh::{Freshness, valid_for, weigh};
pub use key::{Id, Key, variant};
pub use purge::{Purge, TAGS};
pub use served::{STATUSES, ZoneStatus};
pub use store::{Renewed, Writer};
pub use zone::{Ask, Caches, Found, Look, Ticket, Zone};
