//! A worker without an edge or a master: this plays both, with the real bridge and real interpreters.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use bridge::RequestFrame;
use bridge::control::{ControlSocket, FromMold, MoldSettings, Received, ToMold};
use bridge::edge::{BodyPart, EdgeThread, Message, Progress, Region, ResponseFrame, SlotId, WorkerSocket};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing here takes that long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test with every CPython from 3.9 on that is there.
pub fn with_each_python(test: impl Fn(&Path)) {
    let pythons = pythons();
    assert!(!pythons.is_empty(), "the tests need a CPython from 3.9 on");
    for python in pythons {
        eprintln!("with {}", python.display());
        test(&python);
    }
}

/// The newest one alone, for what does not depend on the version.
pub fn any_python() -> PathBuf {
    pythons().pop().expect("the tests need a CPython from 3.9 on")
}

fn pythons() -> Vec<PathBuf> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    if let Some(home) = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|h| h.join(".pyenv")))
        && let Ok(versions) = fs::read_dir(home.join("versions"))
    {
        candidates.extend(versions.flatten().map(|v| v.path().join("bin/python")));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for directory in std::env::split_paths(&path) {
        candidates.extend((9..=14).map(|minor| directory.join(format!("python3.{minor}"))));
        candidates.push(directory.join("python3"));
    }
    let mut found = Vec::new();
    for candidate in candidates.into_iter().filter(|c| c.exists()) {
        let probe = "import sys; print(sys.version_info[1] if sys.version_info[0] == 3 and sys.implementation.name == 'cpython' else 0)";
        let Ok(output) = Command::new(&candidate).args(["-c", probe]).output() else { continue };
        let minor: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0);
        if minor >= 9 && !found.iter().any(|(other, _)| *other == minor) {
            found.push((minor, candidate));
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// A mold, and the edge that its workers talk to.
pub struct Site {
    pub directory: TempDir,
    pub settings: MoldSettings,
    control: ControlSocket,
    mold: Child,
    pub edge: EdgeThread,
    workers: u64,
}

/// One worker, as the edge sees it.
pub struct Worker {
    pub number: u64,
    pub pid: i32,
    socket: WorkerSocket,
    files: Vec<OwnedFd>,
}

/// A request of a test; what is not set is what a plain GET has.
pub struct Ask<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub path: &'a [u8],
    pub query: &'a str,
    pub script: &'a str,
    pub https: bool,
    pub version: u8,
    pub fields: &'a [(&'a str, &'a str)],
    pub body: BodyPart<'a>,
    pub file: Option<&'a File>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            method: "GET",
            target: "/",
            path: b"/",
            query: "",
            script: "",
            https: false,
            version: 11,
            fields: &[("Host", "shop.example")],
            body: BodyPart::None,
            file: None,
        }
    }
}

/// What a worker answered.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Offset and length of each file, and the descriptor.
    pub files: Vec<(u64, u64)>,
    pub failed: bool,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Site {
    /// Starts a mold over these files and configures it.
    pub fn start(python: &Path, files: &[(&str, &str)], settings: &Value) -> Self {
        let mut site = Self::begin(python, files);
        site.configure(settings, 1);
        match site.receive() {
            FromMold::Ready { .. } => site,
            other => panic!("{other:?}\n{}", site.log()),
        }
    }

    /// Starts a mold and waits for what its settings file says.
    pub fn begin(python: &Path, files: &[(&str, &str)]) -> Self {
        let mut site = Self::launch(python, files);
        let received = site.received();
        assert_eq!(received.message, FromMold::Settings {}, "{}", site.log());
        site.settings = received.body().unwrap();
        site
    }

    pub fn launch(python: &Path, files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
        let zip = directory.path().join(".monoceros.zip");
        let packed = Command::new(python)
            .args(["-m", "zipfile", "-c"])
            .args([zip.as_os_str(), root.join("monoceros").as_os_str()])
            .status()
            .unwrap();
        assert!(packed.success());
        let (package, extension) = (File::open(zip).unwrap(), File::open(extension()).unwrap());
        let (control, theirs) = ControlSocket::pair().unwrap();
        control.set_nonblocking(true).unwrap();
        let log = File::create(directory.path().join(".log")).unwrap();
        let mut command = Command::new(python);
        command
            .arg("-c")
            .arg(fs::read_to_string(root.join("monoceros/loader.py")).unwrap())
            .args(["monoceros", "app"])
            .current_dir(directory.path())
            .env("MONOCEROS_PY_FD", package.as_raw_fd().to_string())
            .env("MONOCEROS_EXT_FD", extension.as_raw_fd().to_string())
            .env("MONOCEROS_CONTROL_FD", theirs.as_raw_fd().to_string())
            .env("MONOCEROS_VERSION", "0.1.0")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if files.iter().any(|(name, _)| *name == "gunicorn.conf.py") {
            command.env("MONOCEROS_SETTINGS", "gunicorn.conf.py");
        }
        let keep: [BorrowedFd<'_>; 3] = [package.as_fd(), extension.as_fd(), theirs.as_fd()];
        let mold = sys::spawn(command, &sys::SpawnOptions { keep: &keep, ..Default::default() }).unwrap();
        let edge = EdgeThread::new(Region::create(1, 8).unwrap(), 0);
        Self { directory, settings: MoldSettings::default(), control, mold, edge, workers: 0 }
    }

    pub fn configure(&mut self, settings: &Value, generation: u64) {
        let mut all = json!({"chdir": ".", "workers": 1, "wsgi_app": "app", "loglevel": "info"});
        for (name, value) in settings.as_object().unwrap() {
            all[name] = value.clone();
        }
        let body = json!({ "settings": all });
        self.control.send_with_body(&ToMold::Configure { generation }, &body, &[]).unwrap();
    }

    pub fn send(&self, message: &ToMold) {
        self.control.send(message, &[]).unwrap();
    }

    /// The mold's next message.
    pub fn receive(&self) -> FromMold {
        self.received().message
    }

    fn received(&self) -> Received<FromMold> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.control.recv() {
                Ok(Some(received)) => return received,
                Ok(None) => panic!("the mold is gone\n{}", self.log()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.pause(deadline),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Forks a worker; `None` when it ended before it was ready.
    pub fn try_spawn(&mut self, threads: u16) -> Option<Worker> {
        self.workers += 1;
        let number = self.workers;
        let (ours, theirs) = socket_pair();
        let spawn = ToMold::Spawn { worker: number, age: number, threads };
        self.control.send(&spawn, &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let pid = match self.receive() {
            FromMold::Spawned { worker, pid } if worker == number => pid,
            other => panic!("{other:?}\n{}", self.log()),
        };
        let worker = Worker { number, pid, socket: WorkerSocket::new(ours).unwrap(), files: Vec::new() };
        loop {
            match self.message(&worker)? {
                Message::Hello { claimers, .. } => {
                    assert_eq!(claimers, u32::from(threads));
                    let first = self.edge.region().allocate_claimers(threads).unwrap().start;
                    worker.socket.send_welcome(self.edge.region(), first).unwrap();
                }
                Message::Ready => return Some(worker),
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn spawn(&mut self, threads: u16) -> Worker {
        self.try_spawn(threads).unwrap_or_else(|| panic!("the worker did not boot\n{}", self.log()))
    }

    fn message(&self, worker: &Worker) -> Option<Message> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match worker.socket.recv() {
                Ok(message) => return message,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.pause(deadline),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn pause(&self, deadline: Instant) {
        assert!(Instant::now() < deadline, "nothing came\n{}", self.log());
        thread::sleep(Duration::from_micros(200));
    }

    /// Publishes a request.
    pub fn publish(&mut self, ask: &Ask<'_>) -> SlotId {
        let mut fields = ask.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let content_length = match ask.body {
            BodyPart::None => None,
            BodyPart::Bytes(bytes) => Some(bytes.len() as u64),
            BodyPart::Chunks(_) => unreachable!("not used here"),
            BodyPart::File(length) => Some(length),
        };
        let frame = RequestFrame {
            version: ask.version,
            is_https: ask.https,
            server_port: 8000,
            remote_port: 4711,
            content_length,
            method: ask.method.as_bytes(),
            target: ask.target.as_bytes(),
            path: ask.path,
            query: ask.query.as_bytes(),
            script_name: ask.script.as_bytes(),
            remote_address: b"192.0.2.7",
            server_name: b"shop.example",
            fields: &mut fields,
        };
        let id = self.edge.publish(frame, ask.body).unwrap();
        self.edge.before_park();
        self.edge.awake();
        id
    }

    /// Takes what has come of an answer; whether it has ended.
    pub fn read(&mut self, id: SlotId, answer: &mut Answer) -> bool {
        let progress = self.edge.read_frames(id, |frame| {
            match frame {
                ResponseFrame::Head(head) => {
                    let text = |bytes: &[u8]| bytes.iter().map(|b| char::from(*b)).collect::<String>();
                    answer.status = head.status();
                    answer.reason = text(head.reason());
                    answer.fields = head.fields().map(|(name, value)| (text(name), text(value))).collect();
                }
                ResponseFrame::Body(bytes) => answer.body.extend_from_slice(&bytes),
                ResponseFrame::File { offset, length } => answer.files.push((offset, length)),
                ResponseFrame::Log(_) => {}
                ResponseFrame::End { failed } => answer.failed = failed,
            }
            ControlFlow::Continue(())
        });
        if progress.unwrap() != Progress::Ended {
            return false;
        }
        self.edge.free(id);
        true
    }

    /// Runs one request to its end.
    pub fn ask(&mut self, worker: &mut Worker, ask: &Ask<'_>) -> Answer {
        let id = self.publish(ask);
        let mut answer = Answer::default();
        let deadline = Instant::now() + DEADLINE;
        while !self.read(id, &mut answer) {
            Self::serve_socket(worker, ask.file);
            self.pause(deadline);
        }
        Self::serve_socket(worker, ask.file);
        answer
    }

    fn serve_socket(worker: &mut Worker, file: Option<&File>) {
        while let Ok(Some(message)) = worker.socket.recv() {
            match message {
                Message::Give { slot, ticket } => {
                    worker.socket.send_body(slot, ticket, file.expect("no file to give").as_fd()).unwrap();
                }
                Message::File { fd, .. } => worker.files.push(fd),
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn get(&mut self, worker: &mut Worker, target: &str) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.ask(worker, &Ask { target, path: path.as_bytes(), query, ..Ask::default() })
    }

    /// Everything that mold and workers wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join(".log")).unwrap()
    }

    /// Waits until the log has a text.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.log().contains(text) {
            self.pause(deadline);
        }
    }

    pub fn signal(&self, worker: &Worker, signal: i32) {
        self.send(&ToMold::Signal { worker: worker.number, signal });
    }

    /// Waits for the end of a worker: its code, or the signal that killed it.
    pub fn ended(&self, worker: u64) -> (Option<i32>, Option<i32>) {
        match self.receive() {
            FromMold::Exited { worker: which, code, signal, .. } if which == worker => (code, signal),
            other => panic!("{other:?}\n{}", self.log()),
        }
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.mold.try_wait().unwrap() {
                return status;
            }
            self.pause(deadline);
        }
    }

    /// The directory that the application is in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Worker {
    pub fn take_file(&mut self) -> File {
        self.files.remove(0).into()
    }

    pub fn stop(&self) {
        self.socket.send_stop().unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The mold ends its workers when the master is gone, and they end when the edge is.
        let _ = self.control.send(&ToMold::Stop {}, &[]);
        let _ = self.mold.kill();
        let _ = self.mold.wait();
    }
}

fn socket_pair() -> (OwnedFd, OwnedFd) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// The extension. Cargo builds no cdylib for the tests of its own package, so this has it built.
fn extension() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "worker-python", "--lib", "--target-dir"]);
        build.arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        profile.join("libmonoceros_worker.so")
    })
}
