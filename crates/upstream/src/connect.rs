//! Connecting to a server.

use std::io;
use std::net::SocketAddr;

use config::model::http::{Family, UpstreamAddress};
use socket2::SockRef;
use tokio::net::{TcpSocket, UnixStream};

use crate::Tls;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub address: SocketAddr,
    /// It need not be one of this machine.
    pub transparent: bool,
}

/// How a server is connected to.
#[derive(Clone, Debug)]
pub struct Route {
    /// The protocol.
    pub family: Family,
    /// `proxy_bind`
    pub bind: Option<Bind>,
    /// `proxy_socket_keepalive`
    pub keepalive: bool,
    /// TLS, and the server's name for it.
    pub via: Option<Via>,
}

/// See [`Route::via`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// How it is spoken.
    pub tls: Tls,
    /// The name.
    pub name: String,
}

/// Connects.
pub(crate) async fn connect(address: &UpstreamAddress, route: &Route) -> io::Result<listen::Socket> {
    let to = match address {
        UpstreamAddress::Ip(to) => *to,
        UpstreamAddress::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            return Ok(listen::Socket::Unix(stream));
        }
    };
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if route.keepalive {
        socket.set_keepalive(true)?;
    }
    if let Some(bind) = route.bind {
        if bind.transparent {
            transparent(&socket, bind.address).map_err(|error| {
                let option = if bind.address.is_ipv4() { "IP_TRANSPARENT" } else { "IPV6_TRANSPARENT" };
                io::Error::new(error.kind(), format!("setsockopt({option}) failed: {error}"))
            })?;
        }
        socket.bind(bind.address)?;
    }
    let stream = socket.connect(to).await?;
    // What is written is whole, and the answer waits for it.
    stream.set_nodelay(true)?;
    Ok(listen::Socket::Tcp(stream))
}

fn transparent(socket: &TcpSocket, address: SocketAddr) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if address.is_ipv4() { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) }
}
