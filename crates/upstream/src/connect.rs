//! Connecting to a server.

use std::io;
use std::net::SocketAddr;

use config::model::http::{Family, UpstreamAddress};
use tokio::net::{TcpSocket, UnixStream};

use crate::Tls;

/// The address that a connection comes from.
pub type Bind = SocketAddr;

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
        socket.bind(bind)?;
    }
    let stream = socket.connect(to).await?;
    // What is written is whole, and the answer waits for it.
    stream.set_nodelay(true)?;
    Ok(listen::Socket::Tcp(stream))
}
