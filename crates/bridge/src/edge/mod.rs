//! The edge's end: publishes requests, reads answers, believes nothing.

mod region;
mod socket;
mod thread;

pub use crate::frame::{RequestFrame, ResponseFrame, ResponseHead, ResponseLog};
pub use region::{NoClaimers, Region};
pub use socket::{Message, WorkerSocket};
pub use thread::{BodyPart, BridgeError, EdgeThread, Park, Progress, PublishError, SlotId, SlotState};
