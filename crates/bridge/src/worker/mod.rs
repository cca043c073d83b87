//! The worker's end: claims requests, writes answers.

mod claimer;
mod exchange;
mod link;

pub use crate::frame::{Fields, RequestView};
pub use claimer::{Claimer, Next};
pub use exchange::{Exchange, Gone, RequestBody};
pub use link::{Ended, Link, LinkError, StopHandle};
