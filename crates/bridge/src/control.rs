//! The conversations of the master: with the edge, and with a mold.
//!
//! A message is one JSON object with its kind under `op`, in one packet of a `SOCK_SEQPACKET` socket. A value that
//! may be large goes under `body`, or, when it is large, into an anonymous file whose descriptor is the *last* of the
//! message, which then has `"in_fd": true`. `python/monoceros/control.py` speaks the same.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From this many bytes on a body rides in a descriptor.
const INLINE_SIZE: usize = 16 * 1024;
/// The largest packet; more than a socket's usual send buffer takes.
const MESSAGE_SIZE: usize = 256 * 1024;
/// The largest body in a descriptor: of children, and of the master, whose configuration may hold ten thousands of
/// certificates.
const BODY_SIZE: u64 = 64 * 1024 * 1024;
const MASTER_SIZE: u64 = 4 * 1024 * 1024 * 1024;

/// What the master tells the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ToEdge {
    /// The model, as the body. The listeners' descriptors come along, in the model's order.
    Configure {
        /// Before them comes a file that holds the packed `http` block.
        http: bool,
    },
    /// A worker that will connect over the socket that comes along.
    Worker {
        /// The master's number for it, never used twice.
        worker: u64,
        /// Whose it is.
        generation: u64,
        /// The name of the application that it runs.
        app: String,
        /// It is to be replaced after so many requests; 0 is never.
        max_requests: u64,
        /// How many threads it claims with.
        claimers: u16,
    },
    /// Give this worker no more requests; say when it has none left.
    Drain {
        /// Which.
        worker: u64,
    },
    /// This worker's process is dead. Its socket may not say so: a process that it has forked has that too.
    Exited {
        /// Which.
        worker: u64,
    },
    /// No worker of this application takes a request any more, and none will: whatever waits for one has waited enough.
    Abandon {
        /// Its name.
        app: String,
    },
    /// Open the log files again.
    Reopen {},
    /// End.
    Stop {
        /// Whether requests under way may end.
        graceful: bool,
        /// For how long.
        seconds: u64,
    },
    /// Begin to accept connections.
    Accept {},
    /// What the keys of tickets are made of; the body is for whoever knows TLS.
    Tickets {},
    /// Another certificate under a name of the model's; the body is its contents.
    Certificate {
        /// Which.
        name: String,
    },
    /// An answer for a certification authority; the body says what and where.
    Challenge {
        /// By which it is taken away.
        number: u64,
    },
    /// Take it away.
    ChallengeGone {
        /// Which.
        number: u64,
    },
    /// What came of [`FromEdge::Wanted`]; the body is a certificate's contents, without one there is none.
    OnDemand {
        /// Whose.
        demand: String,
        /// The name that it is for.
        name: String,
        /// Seconds until it is to be asked again.
        again: u64,
    },
}

/// What the master tells the process that orders certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ToAcme {
    /// What is wanted, as the body.
    Configure {},
    /// The answer is where the authority looks for it.
    ChallengeSet {
        /// Which.
        number: u64,
    },
    /// Messages go to the descriptor that comes along.
    Reopen {},
    /// A client has asked for a name.
    Wanted {
        /// By which of the model's demands it may have a certificate.
        demand: String,
        /// The name.
        name: String,
    },
}

/// What the process that orders certificates tells the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum FromAcme {
    /// A certificate that is to be served; the body is its contents.
    Certificate {
        /// Its name in the model.
        name: String,
    },
    /// An answer for an authority, to be put where it looks; the body says what and where.
    Challenge {
        /// By which it is taken away.
        number: u64,
    },
    /// Take it away.
    ChallengeGone {
        /// Which.
        number: u64,
    },
    /// What came of [`ToAcme::Wanted`]; the body is a certificate's contents, without one there is none.
    OnDemand {
        /// Whose.
        demand: String,
        /// The name that it is for.
        name: String,
        /// Seconds until it is to be asked again.
        again: u64,
    },
}

/// What the edge tells the master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum FromEdge {
    /// The model is in use.
    Configured {},
    /// A worker has booted and may claim.
    WorkerReady {
        /// Which.
        worker: u64,
    },
    /// A worker that was told to drain has no request left.
    WorkerDrained {
        /// Which.
        worker: u64,
    },
    /// A worker's socket is at its end.
    WorkerGone {
        /// Which.
        worker: u64,
        /// Whether it has had a request.
        used: bool,
        /// Requests that its application has finished so far, by whichever worker.
        finished: u64,
    },
    /// A worker should be replaced when its successor is ready.
    WorkerRecycle {
        /// Which.
        worker: u64,
        /// Why, for the log.
        reason: String,
    },
    /// A worker took too long for a request and has to be ended.
    WorkerOverran {
        /// Which.
        worker: u64,
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// For how long it ran.
        seconds: f64,
        /// Whether it was already draining.
        graceful: bool,
    },
    /// It has no request and waits for none: it hangs, or its process is stopped.
    WorkerSilent {
        /// Which.
        worker: u64,
        /// For how long.
        seconds: f64,
    },
    /// An answer for a certification authority is where it looks.
    ChallengeSet {
        /// Which.
        number: u64,
    },
    /// A client has asked for a name that may have a certificate on demand.
    Wanted {
        /// By which of the model's demands.
        demand: String,
        /// The name.
        name: String,
    },
    /// Everything has ended; the process exits next.
    Stopped {},
    /// The edge cannot go on.
    Fatal {
        /// Why, for the log.
        text: String,
    },
}

/// What the master tells a mold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ToMold {
    /// The effective settings: the body is `{"settings": {name: value, …}}`, in gunicorn's names.
    Configure {
        /// 1 for the first generation.
        generation: u64,
    },
    /// Fork a worker; its end of the socket to the edge comes along.
    Spawn {
        /// The master's number for it.
        worker: u64,
        /// gunicorn's count of workers ever started.
        age: u64,
        /// How many threads run the application.
        threads: u16,
    },
    /// Send a worker a signal.
    Signal {
        /// Which.
        worker: u64,
        /// The signal's number.
        signal: i32,
    },
    /// Run a hook of the settings file.
    Hook {
        /// Its name.
        name: String,
        /// What it is called with, after the server.
        arguments: Vec<Value>,
    },
    /// Open the log file again; the new one may come along.
    Reopen {},
    /// End.
    Stop {},
}

/// What a mold tells the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum FromMold {
    /// What the settings file holds; the body is a [`MoldSettings`].
    Settings {},
    /// Configured, preloaded, ready to fork.
    Ready {
        /// The mold.
        pid: i32,
    },
    /// It could not start, or a hook is to end the program.
    Failed {
        /// gunicorn's exit code: 1 settings or a hook, 3 a worker failed to boot, 4 the application failed to load; or
        /// what a hook has called `sys.exit` with.
        code: i32,
        /// Why, for the log.
        text: String,
    },
    /// A worker was forked.
    Spawned {
        /// The master's number for it.
        worker: u64,
        /// The process.
        pid: i32,
    },
    /// A worker has ended, with a code or by a signal.
    Exited {
        /// The master's number for it.
        worker: u64,
        /// The process.
        pid: i32,
        /// The exit code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// A hook after which the master waits has run.
    HookDone {
        /// Its name.
        name: String,
    },
    /// The mold got one of the signals that are for the master: to a worker it is what gunicorn's master is.
    Signalled {
        /// The signal's number.
        signal: i32,
        /// Who has sent it; 0 where nobody knows.
        sender: i32,
        /// When it came, in nanoseconds of the machine's monotonic clock.
        at: u64,
    },
    /// A file of the application has changed (`--reload`).
    Changed {
        /// Which worker saw it.
        worker: u64,
        /// The file.
        path: Option<String>,
    },
}

/// What a settings file holds: the body of [`FromMold::Settings`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MoldSettings {
    /// The file, if there is one.
    #[serde(default)]
    pub path: Option<String>,
    /// Its values under gunicorn's names.
    #[serde(default)]
    pub values: serde_json::Map<String, Value>,
    /// The hooks that it defines.
    #[serde(default)]
    pub hooks: Vec<String>,
    /// On which line each name is set.
    #[serde(default)]
    pub lines: serde_json::Map<String, Value>,
    /// The interpreter's version.
    #[serde(default)]
    pub python: String,
}

/// A message with all that came along.
#[derive(Debug)]
pub struct Received<T> {
    /// The message.
    pub message: T,
    /// What could be large, as JSON text.
    pub body: Option<Vec<u8>>,
    /// The descriptors, without the body's.
    pub fds: Vec<OwnedFd>,
}

impl<T> Received<T> {
    /// Reads the body; a message without one is an error.
    pub fn body<B: DeserializeOwned>(&self) -> io::Result<B> {
        let body = self.body.as_deref().ok_or_else(|| invalid("a control message without its body"))?;
        Ok(serde_json::from_slice(body)?)
    }
}

/// One end of a control channel. Whether it waits is the socket's business ([`ControlSocket::set_nonblocking`]).
#[derive(Debug)]
pub struct ControlSocket {
    socket: OwnedFd,
    /// Bytes that a body may have.
    most: u64,
}

impl ControlSocket {
    /// Takes a `SOCK_SEQPACKET` socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, most: BODY_SIZE }
    }

    /// The same for a child of the master, which believes it.
    pub fn to_master(socket: OwnedFd) -> Self {
        Self { socket, most: MASTER_SIZE }
    }

    /// A connected pair, close-on-exec: ours, and what to hand to the other side.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = crate::message::pair()?;
        Ok((Self::new(ours), theirs))
    }

    /// Makes receiving and sending return `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        sys::set_nonblocking(&self.socket, on)
    }

    /// Sends a message, with descriptors.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_text(&serde_json::to_vec(message)?, fds)
    }

    /// Sends a message with a value that may be large, and descriptors.
    pub fn send_with_body<T: Serialize, B: Serialize>(
        &self,
        message: &T,
        body: &B,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut message = serde_json::to_value(message)?;
        let object = message.as_object_mut().ok_or_else(|| invalid("a control message is an object"))?;
        let text = serde_json::to_vec(body)?;
        if text.len() <= INLINE_SIZE {
            object.insert("body".to_owned(), serde_json::from_slice(&text)?);
            return self.send_text(&serde_json::to_vec(&message)?, fds);
        }
        object.insert("in_fd".to_owned(), Value::Bool(true));
        let file = sys::sealed_memfd("monoceros-message", &text)?;
        let mut all = fds.to_vec();
        all.push(file.as_fd());
        self.send_text(&serde_json::to_vec(&message)?, &all)
    }

    fn send_text(&self, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if text.len() > MESSAGE_SIZE {
            return Err(invalid("a control message that is too long for a packet"));
        }
        sys::send_with_fds(&self.socket, &[IoSlice::new(text)], fds)?;
        Ok(())
    }

    /// The next message; `None` when the other side is gone.
    pub fn recv<T: DeserializeOwned>(&self) -> io::Result<Option<Received<T>>> {
        let mut text = vec![0; MESSAGE_SIZE];
        let received = match sys::recv_with_fds(&self.socket, &mut text) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            other => other?,
        };
        if received.length == 0 {
            return Ok(None);
        }
        let mut message: Value = serde_json::from_slice(&text[..received.length])?;
        let object = message.as_object_mut().ok_or_else(|| invalid("a control message that is no object"))?;
        let mut fds = received.fds;
        let body = if object.remove("in_fd") == Some(Value::Bool(true)) {
            let fd = fds.pop().ok_or_else(|| invalid("a control message without its descriptor"))?;
            Some(read_body(fd, self.most)?)
        } else {
            object.remove("body").map(|body| serde_json::to_vec(&body)).transpose()?
        };
        Ok(Some(Received { message: serde_json::from_value(message)?, body, fds }))
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ControlSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn read_body(fd: OwnedFd, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    file.rewind()?;
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(invalid("a control message whose body is too long"));
    }
    Ok(text)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> (ControlSocket, ControlSocket) {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        (ours, ControlSocket::new(theirs))
    }

    #[test]
    fn messages_have_the_shape_that_python_reads() {
        let text = |message: &ToMold| serde_json::to_string(message).unwrap();
        assert_eq!(
            text(&ToMold::Spawn { worker: 3, age: 4, threads: 2 }),
            r#"{"op":"spawn","worker":3,"age":4,"threads":2}"#
        );
        assert_eq!(text(&ToMold::Stop {}), r#"{"op":"stop"}"#);
        let exited: FromMold =
            serde_json::from_str(r#"{"op":"exited","worker":1,"pid":9,"signal":9}"#).unwrap();
        assert_eq!(exited, FromMold::Exited { worker: 1, pid: 9, code: None, signal: Some(9) });
        let overran = FromEdge::WorkerOverran {
            worker: 1,
            method: "GET".into(),
            path: "/".into(),
            seconds: 30.5,
            graceful: false,
        };
        let again: FromEdge = serde_json::from_str(&serde_json::to_string(&overran).unwrap()).unwrap();
        assert_eq!(again, overran);
    }

    #[test]
    fn bodies_cross_inline_and_in_a_descriptor() {
        let (ours, theirs) = sockets();
        for size in [0, 100, INLINE_SIZE, 3_000_000] {
            let settings = MoldSettings { python: "x".repeat(size), ..MoldSettings::default() };
            let other = io::pipe().unwrap();
            ours.send_with_body(&FromMold::Settings {}, &settings, &[other.0.as_fd()]).unwrap();
            let received = theirs.recv::<FromMold>().unwrap().unwrap();
            assert_eq!((&received.message, received.fds.len()), (&FromMold::Settings {}, 1));
            assert_eq!(received.body::<MoldSettings>().unwrap(), settings);
        }
        drop(ours);
        assert!(theirs.recv::<FromMold>().unwrap().is_none());
    }

    #[test]
    fn what_is_too_long_is_refused_and_from_the_master_taken() {
        let file = || sys::sealed_memfd("test", &vec![0; BODY_SIZE as usize + 1]).unwrap();
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let theirs = ControlSocket::to_master(theirs);
        assert!(read_body(file(), ours.most).is_err());
        assert_eq!(read_body(file(), theirs.most).unwrap().len() as u64, BODY_SIZE + 1);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (ours, theirs) = sockets();
        for text in ["x", "[]", "{}", r#"{"op":"what"}"#, r#"{"op":"stop","in_fd":true}"#] {
            ours.send_text(text.as_bytes(), &[]).unwrap();
            assert!(theirs.recv::<ToMold>().is_err(), "{text}");
        }
        theirs.set_nonblocking(true).unwrap();
        assert_eq!(theirs.recv::<ToMold>().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
