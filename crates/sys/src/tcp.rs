//! What the kernel knows of a TCP connection.

use std::os::fd::RawFd;

/// What nginx's `$tcpinfo_…` show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed round-trip time, microseconds.
    pub rtt: u32,
    /// Its variance, microseconds.
    pub rttvar: u32,
    /// The congestion window, segments.
    pub snd_cwnd: u32,
    /// The receive window, bytes.
    pub rcv_space: u32,
}

/// Asks about a connection; `None` where it is not one of TCP. A number that is no longer the connection's descriptor
/// gives the answer of whatever it is now, and harms nothing.
pub fn tcp_info(socket: RawFd) -> Option<TcpInfo> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has that many; every bit pattern is a
    // tcp_info, and what is not written stays zero.
    let info = unsafe {
        let result = libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        if result < 0 {
            return None;
        }
        info.assume_init()
    };
    Some(TcpInfo {
        rtt: info.tcpi_rtt,
        rttvar: info.tcpi_rttvar,
        snd_cwnd: info.tcpi_snd_cwnd,
        rcv_space: info.tcpi_rcv_space,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::tcp_info;

    #[test]
    fn only_a_tcp_connection_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let info = tcp_info(stream.as_raw_fd()).unwrap();
        assert!(info.snd_cwnd > 0 && info.rtt > 0, "{info:?}");
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(tcp_info(unix.as_raw_fd()), None);
    }
}
