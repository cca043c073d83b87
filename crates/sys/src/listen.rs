//! Options of listening sockets that no safe interface offers.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A connection is shown to `accept` only when its client has sent something, or after so many seconds
/// (`TCP_DEFER_ACCEPT`).
pub fn set_defer_accept(socket: impl AsFd, seconds: u32) -> io::Result<()> {
    set_tcp_option(socket, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Clients that were here before may send with their SYN; so many of them may wait (`TCP_FASTOPEN`).
pub fn set_fast_open(socket: impl AsFd, queue: u32) -> io::Result<()> {
    set_tcp_option(socket, libc::TCP_FASTOPEN, queue)
}

fn set_tcp_option(socket: impl AsFd, option: libc::c_int, value: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(value).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is borrowed for the call, and the kernel reads one int from the address of one.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_deferred_connection_is_shown_when_it_has_sent_something() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_defer_accept(&listener, 10).unwrap();
        set_fast_open(&listener, 16).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"x").unwrap();
        listener.set_nonblocking(false).unwrap();
        listener.accept().unwrap();
    }
}
