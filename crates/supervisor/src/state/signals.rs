//! Numbers of signals, Linux's on every machine that this program is built for.

pub(super) const SIGINT: i32 = 2;
pub(super) const SIGQUIT: i32 = 3;
pub(super) const SIGABRT: i32 = 6;
pub(super) const SIGKILL: i32 = 9;
pub(super) const SIGTERM: i32 = 15;
/// SIGSTKFLT, which Linux never sends: at it a worker writes the stack of every thread and goes on.
pub(super) const SHOW_STACKS: i32 = 16;
