//! Listening sockets: bound by us, inherited (`fd://N`), or handed over by systemd.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use config::model::{Address, KeepAlive, Listener, Model, Process, SocketOptions};
use rustix::process::Pid;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::logs::notice;
use crate::signals::Signals;

/// systemd's first descriptor.
const FIRST_FD: i32 = 3;
/// Patience with an address in use: both programs try five times.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
const NGINX_PAUSE: Duration = Duration::from_millis(500);

/// A socket that listens. The file of a Unix socket that we have made is removed with it.
#[derive(Debug)]
pub(crate) struct Bound {
    fd: OwnedFd,
    asked: Address,
    /// Where it listens in truth: with the kernel's port, and an inherited one with its own address.
    actual: Address,
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// It is somebody else's by now.
    left: AtomicBool,
    /// The program that it was taken over from, which has it as long as it lives.
    owner: Option<Pid>,
}

impl SocketFile {
    fn find(path: &Path) -> Option<Self> {
        let left = AtomicBool::new(false);
        identity(path).map(|identity| Self { path: path.to_owned(), identity, left, owner: None })
    }

    /// Whether it goes with us.
    fn is_ours(&self) -> bool {
        let has_owner = self.owner.is_some() && rustix::process::getppid() == self.owner;
        !self.left.load(Ordering::Relaxed) && !has_owner
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|file| file.is_ours()) {
            // Somebody may have put another one in its place since.
            if identity(&file.path).is_some_and(|now| now == file.identity) {
                let _ = fs::remove_file(&file.path);
            }
        }
    }
}

impl Bound {
    /// A copy of the descriptor, to be sent.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Leaves the socket's file to whoever has the socket too.
    pub(crate) fn leave_file(&self) {
        if let Some(file) = &self.file {
            file.left.store(true, Ordering::Relaxed);
        }
    }

    /// Where it listens, as gunicorn writes it in its log.
    pub(crate) fn url(&self, tls: bool) -> String {
        match &self.actual {
            Address::Tcp(address) if tls => format!("https://{address}"),
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Fd(number) => format!("fd://{number}"),
        }
    }
}

/// What systemd has handed over: `$LISTEN_FDS` descriptors, if `$LISTEN_PID` says that they are for us. They stand
/// in for every `bind`, as with gunicorn.
pub(crate) fn from_systemd(environment: &[(OsString, OsString)]) -> Result<Vec<Arc<Bound>>, String> {
    let number = |name: &str| {
        let (_, value) = environment.iter().find(|(n, _)| n == name)?;
        value.to_str()?.parse::<i32>().ok()
    };
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return Ok(vec![]);
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, 1000);
    (FIRST_FD..FIRST_FD + count).map(|fd| inherit(fd).map(Arc::new)).collect()
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The variable in which nginx names the sockets that it leaves to a new program: `6;7;`.
pub(crate) const INHERITED: &str = "NGINX";

/// What a program that this one takes over from has left, if there is one. Errors are logged, and the socket is bound
/// anew.
pub(crate) fn from_nginx(environment: &[(OsString, OsString)]) -> Option<Vec<Arc<Bound>>> {
    let (_, value) = environment.iter().find(|(name, _)| name == INHERITED)?;
    let text = value.to_string_lossy();
    notice(&format!("using inherited sockets from \"{text}\""));
    let mut sockets = vec![];
    for number in text.split([';', ':']).filter(|number| !number.is_empty()) {
        let socket = number.parse().map_err(|_| format!("{number} is no number")).and_then(inherit);
        match socket {
            Ok(mut socket) => {
                socket.asked = socket.actual.clone();
                if let Address::Unix(path) = &socket.actual {
                    let owner = rustix::process::getppid();
                    socket.file = SocketFile::find(path).map(|file| SocketFile { owner, ..file });
                }
                sockets.push(Arc::new(socket));
            }
            Err(why) => telemetry::error!("{}", why),
        }
    }
    Some(sockets)
}

/// Binds what the model asks for, taking over what is bound already, and writes the true addresses into the model.
/// The error is a sentence for the user.
pub(crate) fn bind_all(
    model: &mut Model,
    bound: &[Arc<Bound>],
    systemd: &[Arc<Bound>],
    patience: Patience<'_>,
) -> Result<Vec<Arc<Bound>>, String> {
    let is_nginx = model.http.is_some();
    if !systemd.is_empty() {
        let backlog = model.listeners.first().map_or(2048, |l| l.backlog);
        model.listeners = systemd
            .iter()
            .map(|s| Listener {
                address: s.actual.clone(),
                text: s.url(false),
                backlog,
                reuse_port: false,
                options: SocketOptions::default(),
                place: None,
            })
            .collect();
        return Ok(systemd.to_vec());
    }
    let mut sockets = Vec::with_capacity(model.listeners.len());
    for listener in &mut model.listeners {
        let known = bound.iter().find(|b| b.asked == listener.address);
        let socket = match known {
            Some(known) => {
                // A second listen(2) sets a new backlog.
                let _ = rustix::net::listen(&known.fd, backlog(listener));
                Arc::clone(known)
            }
            None => Arc::new(bind_patiently(listener, &model.process, is_nginx, patience)?),
        };
        listener.address = socket.actual.clone();
        sockets.push(socket);
    }
    Ok(sockets)
}

/// What to do about an address in use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience<'a> {
    /// Nothing: whoever has it may have it for ever.
    None,
    /// Wait a few seconds: another program may be about to end. It is told once that we do. Whoever handles signals
    /// already is waited for no longer when told to end.
    Told(&'a Signals),
    /// The same while there is no log yet: it is told on standard error, in the form of nginx, by the name of this
    /// program.
    Starting(&'a str),
}

fn bind_patiently(
    listener: &Listener,
    process: &Process,
    is_nginx: bool,
    patience: Patience<'_>,
) -> Result<Bound, String> {
    let explain = |error: &io::Error| {
        if is_nginx { refusal(listener, error) } else { explain(listener, error) }
    };
    let pause = if is_nginx { NGINX_PAUSE } else { PAUSE };
    let mut interrupted = false;
    for attempt in 1.. {
        let error = match bind(listener, process) {
            Ok(bound) => return Ok(bound),
            Err(error) => error,
        };
        if matches!(patience, Patience::None) {
            return Err(explain(&error));
        }
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(explain(&error));
        }
        if attempt == ATTEMPTS || interrupted {
            // nginx's last words; the address is in the line before.
            let last = "still could not bind()".to_owned();
            return Err(if is_nginx { last } else { explain(&error) });
        }
        if attempt == 1 {
            let seconds = (pause * (ATTEMPTS - 1)).as_secs();
            if let Patience::Starting(name) = patience {
                eprintln!("{name}: [emerg] {}", explain(&error));
            } else {
                telemetry::warning!("Connection in use: {}; trying for {} seconds", listener.text, seconds);
            }
        }
        match patience {
            Patience::Told(signals) => interrupted = signals.told_to_end(None, Some(pause)).is_some(),
            _ => std::thread::sleep(pause),
        }
    }
    unreachable!("the loop ends by returning")
}

/// In nginx's words, and, where that is known, which line of the configuration wants it.
fn refusal(listener: &Listener, error: &io::Error) -> String {
    let address = match &listener.address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Fd(number) => format!("fd://{number}"),
    };
    let place = listener.place.as_ref().map_or_else(String::new, |place| format!(" in {place}"));
    format!("bind() to {address} failed ({}){place}", errno(error))
}

/// An error of the system in nginx's form: `98: Address already in use`.
pub(crate) fn errno(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => format!("{number}: {}", text.split(" (os error").next().unwrap_or(&text)),
        None => match error.kind() {
            io::ErrorKind::AddrInUse => "98: Address already in use".to_owned(),
            _ => text,
        },
    }
}

/// As `nginx -t` tries the addresses: one in use is no error of the configuration.
pub(crate) fn test(model: &Model) -> Result<(), String> {
    for listener in &model.listeners {
        match bind(listener, &model.process) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(refusal(listener, &error)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

fn explain(listener: &Listener, error: &io::Error) -> String {
    let text = &listener.text;
    match (error.kind(), &listener.address) {
        (io::ErrorKind::PermissionDenied, Address::Tcp(address)) if address.port() < 1024 => format!(
            "May not listen on {text}: ports below 1024 are for root or a program with CAP_NET_BIND_SERVICE; \
             bind a higher port, or start as root with --user"
        ),
        (io::ErrorKind::AddrNotAvailable, _) => {
            format!("Can't listen on {text}: this machine has no such address")
        }
        (io::ErrorKind::AddrInUse, _) => format!("Can't listen on {text}: another program listens there"),
        _ => format!("Can't listen on {text}: {error}"),
    }
}

fn bind(listener: &Listener, process: &Process) -> io::Result<Bound> {
    match &listener.address {
        Address::Tcp(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            if listener.reuse_port {
                socket.set_reuse_port(true)?;
            }
            if address.is_ipv6() {
                socket.set_only_v6(listener.options.ipv6_only.unwrap_or(true))?;
            }
            set_options(&socket, &listener.options)?;
            socket.bind(&SockAddr::from(*address))?;
            finish(socket, listener, None)
        }
        Address::Unix(path) => {
            remove_stale(path)?;
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            let mask = sys::set_umask(process.umask);
            let result = socket.bind(&SockAddr::unix(path)?);
            sys::set_umask(mask);
            result?;
            let file = SocketFile::find(path);
            if process.uid.is_some() || process.gid.is_some() {
                std::os::unix::fs::chown(path, process.uid, process.gid)?;
            }
            finish(socket, listener, file)
        }
        Address::Fd(number) => inherit(*number).map_err(io::Error::other),
    }
}

fn set_options(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(size(bytes))?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(size(bytes))?;
    }
    if options.deferred {
        // nginx's number of seconds.
        sys::set_defer_accept(socket, 1)?;
    }
    if let Some(queue) = options.fastopen {
        sys::set_fast_open(socket, queue)?;
    }
    match options.keepalive {
        None => {}
        Some(KeepAlive::On) => socket.set_keepalive(true)?,
        Some(KeepAlive::Off) => socket.set_keepalive(false)?,
        Some(KeepAlive::Every { idle, interval, count }) => {
            let times = TcpKeepalive::new();
            let times = idle.map_or(times.clone(), |idle| times.with_time(idle));
            let times = interval.map_or(times.clone(), |interval| times.with_interval(interval));
            let times = count.map_or(times.clone(), |count| times.with_retries(count));
            socket.set_keepalive(true)?;
            socket.set_tcp_keepalive(&times)?;
        }
    }
    Ok(())
}

fn finish(socket: Socket, listener: &Listener, file: Option<SocketFile>) -> io::Result<Bound> {
    // From here on an error removes the file.
    let mut bound =
        Bound { fd: socket.into(), asked: listener.address.clone(), actual: listener.address.clone(), file };
    sys::set_nonblocking(&bound.fd, true)?;
    rustix::net::listen(&bound.fd, backlog(listener))?;
    if let Some(actual) = address_of(&bound.fd) {
        bound.actual = actual;
    }
    Ok(bound)
}

fn backlog(listener: &Listener) -> i32 {
    i32::try_from(listener.backlog).unwrap_or(i32::MAX)
}

fn inherit(number: i32) -> Result<Bound, String> {
    let wrong = |why: String| format!("The descriptor {number} cannot be listened on: {why}");
    let fd = sys::inherited_fd(number).map_err(|error| wrong(error.to_string()))?;
    if !rustix::net::sockopt::socket_acceptconn(&fd).unwrap_or(false) {
        return Err(wrong("it is no listening socket".to_owned()));
    }
    sys::set_nonblocking(&fd, true).map_err(|error| wrong(error.to_string()))?;
    let asked = Address::Fd(number);
    let actual = address_of(&fd).unwrap_or_else(|| asked.clone());
    Ok(Bound { fd, asked, actual, file: None })
}

fn address_of(fd: impl AsFd) -> Option<Address> {
    let socket = socket2::SockRef::from(&fd);
    let address = socket.local_addr().ok()?;
    match address.as_socket() {
        Some(tcp) => Some(Address::Tcp(tcp)),
        None => address.as_pathname().map(|path| Address::Unix(path.to_owned())),
    }
}

/// A socket file that nobody listens on is what a killed program left. Anything else is not ours to remove.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of that name that is no socket",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Connected, or a full queue.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn bind_at_once(listener: &Listener, process: &Process) -> Result<Bound, String> {
        bind_patiently(listener, process, false, Patience::None)
    }

    fn process() -> Process {
        Process {
            user: None,
            group: None,
            uid: None,
            gid: None,
            umask: 0o117,
            initgroups: false,
            chdir: "/".into(),
            daemon: false,
            pidfile: None,
            proc_name: String::new(),
            raw_env: vec![],
            pythonpath: vec![],
            python: None,
            settings: None,
        }
    }

    fn listener(address: Address) -> Listener {
        Listener {
            text: format!("{address:?}"),
            address,
            backlog: 16,
            reuse_port: false,
            options: SocketOptions::default(),
            place: None,
        }
    }

    fn tcp(text: &str) -> Listener {
        listener(Address::Tcp(text.parse().unwrap()))
    }

    #[test]
    fn the_kernels_port_is_told() {
        let bound = bind_at_once(&tcp("127.0.0.1:0"), &process()).unwrap();
        let Address::Tcp(address) = bound.actual else { panic!("{bound:?}") };
        assert_ne!(address.port(), 0);
        TcpStream::connect(address).unwrap();
        assert_eq!(bound.url(false), format!("http://{address}"));
    }

    #[test]
    fn an_address_in_use_is_a_sentence() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap().to_string();
        let error = bind_at_once(&tcp(&address), &process()).unwrap_err();
        assert!(error.contains("another program listens there"), "{error}");
        let error = bind_patiently(&tcp(&address), &process(), true, Patience::None).unwrap_err();
        assert_eq!(error, format!("bind() to {address} failed (98: Address already in use)"));
        let error = bind_at_once(&tcp("203.0.113.7:0"), &process()).unwrap_err();
        assert!(error.contains("this machine has no such address"), "{error}");
    }

    #[test]
    fn a_socket_file_has_the_mode_of_the_umask_and_goes_with_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let wanted = listener(Address::Unix(path.clone()));
        let bound = bind_at_once(&wanted, &process()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        assert!(bind_at_once(&wanted, &process()).is_err(), "somebody listens");
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind_at_once(&listener(Address::Unix(path.clone())), &process()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(bind_at_once(&listener(Address::Unix(path.clone())), &process()).is_err());
        drop(bound);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine", "another file in its place stays");
    }

    #[test]
    fn only_a_listening_descriptor_is_taken() {
        use std::os::fd::IntoRawFd;
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let bound = inherit(socket.into_raw_fd()).unwrap();
        assert_eq!(bound.actual, Address::Tcp(address));
        let file = tempfile::tempfile().unwrap().into_raw_fd();
        assert!(inherit(file).unwrap_err().contains("no listening socket"));
    }

    #[test]
    fn systemd_hands_over_only_to_whom_it_means() {
        let env = |pid: &str| vec![("LISTEN_PID".into(), pid.into()), ("LISTEN_FDS".into(), "1".into())];
        assert!(from_systemd(&env("1")).unwrap().is_empty());
        assert!(from_systemd(&[]).unwrap().is_empty());
    }
}
