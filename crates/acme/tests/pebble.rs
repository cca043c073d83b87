//! Orders against a real authority: Debian's `pebble`. Without it there is nothing to test, except in CI, which has it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acme::clock::SystemClock;
use acme::keeper::Keeper;
use acme::key::Pair;
use acme::order::{Answer, Front};
use acme::store::Store;
use acme::{Failure, chain, hook};
use config::model::acme::{Challenge, ExternalAccount, Issuer, Key, Order};

const TIME: Duration = Duration::from_secs(120);

/// A running pebble, and the server of names that it asks.
struct Pebble {
    children: Vec<Child>,
    directory: tempfile::TempDir,
    port: u16,
    names: u16,
    /// Where it looks for answers of `http-01`.
    http: TcpListener,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Each another one.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

impl Pebble {
    fn start(more: &serde_json::Value, environment: &[(&str, &str)]) -> Option<Self> {
        if Command::new("pebble").arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI has to have pebble");
            eprintln!("skipped: there is no pebble here");
            return None;
        }
        // A port that was free may be somebody's by the time that it is listened on.
        let started = (0..5).find_map(|_| Self::try_start(more, environment));
        Some(started.expect("pebble did not start five times"))
    }

    fn try_start(more: &serde_json::Value, environment: &[(&str, &str)]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::NoCa;
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(path("ca.pem"), certificate.pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let http = TcpListener::bind("127.0.0.1:0").unwrap();
        let [port, names, management, own_management, tls] = free_ports();
        let mut settings = serde_json::json!({
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{own_management}"),
            "certificate": path("ca.pem"),
            "privateKey": path("key.pem"),
            "httpPort": http.local_addr().unwrap().port(),
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        });
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let config = serde_json::json!({ "pebble": settings }).to_string();
        std::fs::write(path("pebble.json"), config).unwrap();
        let quiet = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
        };
        let server = quiet(Command::new("pebble-challtestsrv").args([
            "-dns01",
            &format!("127.0.0.1:{names}"),
            "-management",
            &format!("127.0.0.1:{management}"),
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]));
        let mut pebble = Command::new("pebble");
        pebble.arg("-strict").args(["-dnsserver", &format!("127.0.0.1:{names}")]).arg("-config");
        pebble.arg(path("pebble.json")).env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        pebble.envs(environment.iter().copied());
        let children = vec![server, quiet(&mut pebble)];
        let mut pebble = Self { children, directory, port, names: management, http };
        let until = Instant::now() + Duration::from_secs(60);
        while [port, management].iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
            if Instant::now() > until || !pebble.runs() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        pebble.runs().then_some(pebble)
    }

    fn runs(&mut self) -> bool {
        self.children.iter_mut().all(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn issuer(&self) -> Issuer {
        Issuer {
            name: "pebble".into(),
            directory: format!("https://127.0.0.1:{}/dir", self.port),
            contact: vec!["mailto:admin@shop.example".into()],
            account_key: None,
            challenge: Challenge::Http01,
            external_account: None,
            profile: None,
            trusted: Some(self.directory.path().join("ca.pem")),
            verify: true,
            state: self.state(),
            accepted_terms: true,
            dns_hook: vec![],
        }
    }
}

/// Answers challenges: by a server on pebble's port for them, and by records.
struct Window {
    served: RefCell<Vec<Pair>>,
    answers: Arc<Mutex<HashMap<String, String>>>,
    present: RefCell<Vec<(u64, Answer)>>,
    hook: Vec<String>,
}

impl Window {
    fn new(pebble: &Pebble) -> Rc<Self> {
        let answers = Arc::new(Mutex::new(HashMap::<String, String>::new()));
        let (listener, shared) = (pebble.http.try_clone().unwrap(), Arc::clone(&answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &shared.lock().unwrap());
            }
        });
        let hook = pebble.directory.path().join("hook.py");
        let script = format!(
            r#"import json, sys, urllib.request
action, name, value = sys.argv[1:]
path, body = ("set-txt", {{"host": name + ".", "value": value}})
if action == "cleanup":
    path, body = ("clear-txt", {{"host": name + "."}})
data = json.dumps(body).encode()
urllib.request.urlopen("http://127.0.0.1:{}/" + path, data, timeout=30).read()
"#,
            pebble.names
        );
        std::fs::write(&hook, script).unwrap();
        let hook = vec!["python3".to_owned(), hook.to_str().unwrap().to_owned()];
        Rc::new(Self { served: RefCell::default(), answers, present: RefCell::default(), hook })
    }

    fn last(&self) -> chain::Leaf {
        chain::look(&self.served.borrow().last().unwrap().chain).unwrap()
    }
}

fn answer(mut stream: TcpStream, answers: &HashMap<String, String>) {
    let mut request = Vec::new();
    let mut buf = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buf) {
            Ok(count) if count > 0 => request.extend_from_slice(&buf[..count]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
    let response = match answers.get(token) {
        Some(content) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len()),
        None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(response.as_bytes());
}

impl Front for Window {
    fn serve(&self, _: &Order, pair: &Pair) {
        self.served.borrow_mut().push(pair.clone());
    }

    async fn put(&self, _: &Issuer, answer: Answer) -> Result<u64, Failure> {
        match &answer {
            Answer::Http { token, content } => {
                self.answers.lock().unwrap().insert(token.clone(), content.clone());
            }
            Answer::Dns(record) => hook::run(&self.hook, hook::Action::Present, record, hook::TIME)?,
            Answer::TlsAlpn { .. } => return Err(Failure::Own("nobody listens".into())),
        }
        let number = self.present.borrow().len() as u64;
        self.present.borrow_mut().push((number, answer));
        Ok(number)
    }

    fn take(&self, number: u64) {
        let mut present = self.present.borrow_mut();
        let at = present.iter().position(|(n, _)| *n == number).expect("taken once");
        match &present[at].1 {
            Answer::Http { token, .. } => drop(self.answers.lock().unwrap().remove(token)),
            Answer::Dns(record) => hook::run(&self.hook, hook::Action::Cleanup, record, hook::TIME).unwrap(),
            Answer::TlsAlpn { .. } => {}
        }
        present[at].0 = u64::MAX;
    }
}

fn order(names: &[&str], key: Key) -> Order {
    Order {
        name: names[0].to_owned(),
        identifiers: names.iter().map(|&name| name.to_owned()).collect(),
        key,
        issuers: vec![0],
    }
}

fn keeper(order: &Order, issuers: &[Issuer], window: &Rc<Window>) -> Keeper<Window, SystemClock> {
    Keeper::new(order.clone(), issuers.to_vec(), Rc::clone(window), SystemClock).unwrap()
}

/// Turns until a certificate of the authority's is served, or there is nothing left to do.
async fn turn(keeper: &mut Keeper<Window, SystemClock>) -> u64 {
    tokio::time::timeout(TIME, async {
        loop {
            let pause = keeper.turn().await;
            if pause > 0 {
                return pause;
            }
        }
    })
    .await
    .expect("in time")
}

fn run(future: impl Future) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

fn note(state: &Path, order: &Order) -> String {
    let note = Store::of(state).note(order);
    note.values().map(|rest| rest.error.clone()).collect::<Vec<_>>().join("\n")
}

#[test]
fn certificates_come_for_several_names_and_kinds_of_keys() {
    let Some(pebble) = Pebble::start(&serde_json::json!({}), &[]) else { return };
    run(async {
        let window = Window::new(&pebble);
        for key in [Key::P256, Key::P384, Key::Rsa2048] {
            let order = order(&["shop.example", "www.shop.example", "127.0.0.1"], key);
            let mut keeper = keeper(&order, &[pebble.issuer()], &window);
            let pause = turn(&mut keeper).await;
            assert_eq!(note(&pebble.state(), &order), "");
            let leaf = window.last();
            assert!(leaf.issuer.contains("Pebble"), "{leaf:?}");
            assert!(order.identifiers.iter().all(|name| leaf.identifiers.contains(name)), "{leaf:?}");
            assert!(pause > 60, "and there is nothing to do for a while");
        }
        assert!(window.answers.lock().unwrap().is_empty(), "what was put is taken away");
        // The same account for all of them, and everything for its owner only.
        let files =
            std::fs::read_dir(pebble.state()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
        assert_eq!(files.filter(|name| name.starts_with("account-")).count(), 1);
    });
}

#[test]
fn wildcards_are_proved_by_records() {
    let Some(pebble) = Pebble::start(&serde_json::json!({}), &[]) else { return };
    run(async {
        let window = Window::new(&pebble);
        let order = order(&["*.shop.example"], Key::P256);
        let mut keeper = keeper(&order, &[pebble.issuer()], &window);
        turn(&mut keeper).await;
        assert_eq!(note(&pebble.state(), &order), "");
        assert_eq!(window.last().identifiers, ["*.shop.example"]);
        assert!(window.last().issuer.contains("Pebble"));
    });
}

#[test]
fn rejected_nonces_are_tried_again_and_reused_authorizations_are_taken() {
    let environment = [("PEBBLE_WFE_NONCEREJECT", "40"), ("PEBBLE_AUTHZREUSE", "100")];
    let Some(pebble) = Pebble::start(&serde_json::json!({}), &environment) else { return };
    run(async {
        let window = Window::new(&pebble);
        for names in
            [&["a.example"][..], &["a.example", "b.example"], &["b.example", "a.example", "c.example"]]
        {
            let order = order(names, Key::P256);
            let mut keeper = keeper(&order, &[pebble.issuer()], &window);
            turn(&mut keeper).await;
            assert_eq!(note(&pebble.state(), &order), "");
            assert!(window.last().issuer.contains("Pebble"));
        }
    });
}

#[test]
fn external_accounts_are_bound() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let settings = serde_json::json!({
        "externalAccountBindingRequired": true,
        "externalAccountMACKeys": {"kid-1": key},
    });
    let Some(pebble) = Pebble::start(&settings, &[]) else { return };
    run(async {
        let window = Window::new(&pebble);
        let order = order(&["shop.example"], Key::P256);
        let mut without = keeper(&order, &[pebble.issuer()], &window);
        turn(&mut without).await;
        let why = note(&pebble.state(), &order);
        assert!(why.contains("externalAccountRequired"), "{why}");
        let external = Some(ExternalAccount { id: "kid-1".into(), key: key.into() });
        let issuer =
            Issuer { external_account: external, state: pebble.state().join("bound"), ..pebble.issuer() };
        let mut with = keeper(&order, &[issuer], &window);
        turn(&mut with).await;
        assert!(window.last().issuer.contains("Pebble"));
    });
}

#[test]
fn a_refusal_is_told_and_waited_for() {
    let settings = serde_json::json!({"domainBlocklist": ["blocked.example"]});
    let Some(pebble) = Pebble::start(&settings, &[]) else { return };
    run(async {
        let window = Window::new(&pebble);
        let blocked = order(&["blocked.example"], Key::P256);
        let mut keeper_ = keeper(&blocked, &[pebble.issuer()], &window);
        let pause = turn(&mut keeper_).await;
        let why = note(&pebble.state(), &blocked);
        assert!(why.contains("blocked.example") && why.contains("rejectedIdentifier"), "{why}");
        assert!((60..=75).contains(&pause), "{pause}");
        // Nobody answers on behalf of this one.
        let order = order(&["other.example"], Key::P256);
        let issuer = Issuer { challenge: Challenge::TlsAlpn01, ..pebble.issuer() };
        let mut keeper_ = keeper(&order, &[issuer], &window);
        turn(&mut keeper_).await;
        assert!(note(&pebble.state(), &order).contains("nobody listens"));
    });
}

#[test]
fn the_next_authority_is_asked_when_one_fails() {
    let Some(pebble) = Pebble::start(&serde_json::json!({}), &[]) else { return };
    run(async {
        let window = Window::new(&pebble);
        let order = order(&["shop.example"], Key::P256);
        let dead = Issuer {
            directory: format!("https://127.0.0.1:{}/dir", free_port()),
            name: "dead".into(),
            ..pebble.issuer()
        };
        let mut keeper = keeper(&order, &[dead, pebble.issuer()], &window);
        turn(&mut keeper).await;
        assert!(window.last().issuer.contains("Pebble"));
    });
}

#[test]
fn an_authority_that_has_lost_the_account_gets_another() {
    let Some(pebble) = Pebble::start(&serde_json::json!({}), &[]) else { return };
    run(async {
        let window = Window::new(&pebble);
        let first = order(&["a.example"], Key::P256);
        turn(&mut keeper(&first, &[pebble.issuer()], &window)).await;
        let Some(other) = Pebble::start(&serde_json::json!({}), &[]) else { return };
        let other_window = Window::new(&other);
        // The account of the first, under the address of the second.
        let (from, to) = (format!(":{}/", pebble.port), format!(":{}/", other.port));
        let account = |path: &Path| {
            let mut names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            names.find(|path| path.to_string_lossy().contains("account-")).unwrap()
        };
        let text = std::fs::read_to_string(account(&pebble.state())).unwrap().replace(&from, &to);
        let second = order(&["b.example"], Key::P256);
        turn(&mut keeper(&second, &[other.issuer()], &other_window)).await;
        std::fs::write(account(&other.state()), text.replace("my-account/1", "my-account/77")).unwrap();
        let third = order(&["c.example"], Key::P256);
        turn(&mut keeper(&third, &[other.issuer()], &other_window)).await;
        assert_eq!(note(&other.state(), &third), "");
        assert_eq!(other_window.last().identifiers, ["c.example"]);
    });
}

#[test]
fn a_finalized_order_is_gone_on_with() {
    let Some(pebble) = Pebble::start(&serde_json::json!({}), &[]) else { return };
    run(async {
        let window = Window::new(&pebble);
        let order = order(&["shop.example"], Key::P256);
        // Stops the moment that the order is finalized: the authority has it, the process is gone.
        {
            let mut keeper = keeper(&order, &[pebble.issuer()], &window);
            let until_finalized = async {
                while Store::of(&pebble.state()).finalized(&order).is_none() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                biased;
                () = until_finalized => {}
                _ = keeper.turn() => panic!("it was not stopped"),
            }
        }
        let before = Store::of(&pebble.state()).finalized(&order).unwrap();
        assert!(window.answers.lock().unwrap().is_empty(), "what was put is taken away");
        let mut keeper = keeper(&order, &[pebble.issuer()], &window);
        turn(&mut keeper).await;
        assert!(window.last().issuer.contains("Pebble"));
        assert_eq!(Store::of(&pebble.state()).finalized(&order), None);
        // Another order would have asked for answers again.
        let puts = window.present.borrow().len();
        assert_eq!(puts, 1, "{before:?}");
    });
}
