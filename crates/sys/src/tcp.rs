//! What the kernel knows of a TCP connection.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

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

/// Bytes that were written to a TCP connection and that the other side's kernel has not acknowledged; `None` where the
/// system does not say.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which Linux names TIOCOUTQ as well, writes one int to `bytes`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 { None } else { u64::try_from(bytes).ok() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::{Duration, Instant};

    use super::{tcp_info, unacknowledged};

    #[test]
    fn what_nobody_takes_stays_unacknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(stream.as_fd()), Some(0));
        stream.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(more) = stream.write(&[0; 8192]) {
            written += more;
        }
        let left = unacknowledged(stream.as_fd()).unwrap();
        assert!(left > 0 && left <= written as u64, "{left} of {written}");
        other.read_exact(&mut vec![0; written]).unwrap();
        let begun = Instant::now();
        while unacknowledged(stream.as_fd()) != Some(0) {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
    }

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
