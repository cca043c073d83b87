//! systemd's readiness protocol (sd_notify): one datagram to `$NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells the service manager; without one nothing happens.
pub(crate) fn notify(socket: Option<&OsStr>, state: &str) -> io::Result<()> {
    let Some(name) = socket.filter(|name| !name.is_empty()) else { return Ok(()) };
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaches_a_path_and_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("monoceros-notify-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        notify(Some(path.as_os_str()), "READY=1").unwrap();
        notify(Some(OsStr::new(&format!("@{abstract_name}"))), "STOPPING=1").unwrap();
        notify(None, "READY=1").unwrap();
        let mut bytes = [0; 32];
        let n = by_path.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..n], b"READY=1");
        let n = by_name.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..n], b"STOPPING=1");
    }
}
