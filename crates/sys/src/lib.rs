//! All unsafe code: shared memory, fd passing, privileges, exec.

#[cfg(feature = "allocator")]
mod allocator;
mod fds;
mod listen;
mod process;
mod region;
mod senders;
mod tcp;
#[cfg(feature = "watch")]
mod watch;

#[cfg(feature = "allocator")]
pub use allocator::Allocator;
pub use fds::{
    MOST_DESCRIPTORS, Received, inherited_fd, make_room_for_fds, read_sealed_memfd, recv_behind,
    recv_with_fds, sealed_memfd, send_with_fds, set_nonblocking,
};
pub use listen::{set_defer_accept, set_fast_open};
pub use process::{
    Identity, SpawnOptions, drop_privileges, drop_privileges_but_raw_sockets, ignore_file_size_signal,
    ignore_orders, may_bind_transparently, on_signal_store, set_child_subreaper, set_patient, set_umask,
    spawn,
};
pub use region::{Foreign, MOST_FOREIGN, SharedRegion, page_out, send_foreign};
pub use senders::{SIGNAL_BYTES, Told, tell_senders};
pub use tcp::{TcpInfo, tcp_info, unacknowledged};
#[cfg(feature = "watch")]
pub use watch::{Alarm, Watched};
