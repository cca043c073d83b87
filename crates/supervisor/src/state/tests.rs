use super::*;

mod boot;
mod cycles;
mod reload;
mod start;
mod stop;
mod workers;

/// A master in a bottle: molds, workers and the edge do at once what they are told, unless a test holds them back.
struct World {
    state: State,
    now: Time,
    plan: Plan,
    outline: Outline,
    /// What was done, but for what the world itself answers.
    seen: Vec<Action>,
    /// Workers become ready by themselves.
    auto_ready: bool,
    /// Workers end when they are drained or get a signal.
    auto_exit: bool,
    exit: Option<u8>,
}

const S: Duration = Duration::from_secs(1);
const OUTLINE: Outline = Outline { applications: 1, shutdown_timeout: None };

impl World {
    fn new(workers: u32) -> Self {
        Self {
            state: State::new(Manners::Gunicorn, OUTLINE),
            now: Duration::ZERO,
            plan: Plan {
                workers,
                threads: 1,
                graceful_timeout: 30 * S,
                boot_timeout: None,
                max_rss: Some(100 << 20),
            },
            outline: OUTLINE,
            seen: vec![],
            auto_ready: true,
            auto_exit: true,
            exit: None,
        }
    }

    fn serving(workers: u32) -> Self {
        let mut w = Self::new(workers);
        w.run();
        assert!(w.state.current.is_some(), "{:?}", w.seen);
        w.seen.clear();
        w
    }

    fn event(&mut self, event: Event) {
        self.state.handle(event, self.now);
        self.run();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.state.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.state.tick(self.now);
            self.run();
            assert!(
                self.state.deadline().is_none_or(|next| next > self.now),
                "a deadline that does not move on"
            );
        }
        self.now = end;
        self.state.tick(end);
        self.run();
    }

    fn run(&mut self) {
        let begin = self.seen.len();
        while let Some(action) = self.state.next_action() {
            self.seen.push(action.clone());
            assert!(self.seen.len() < begin + 1000, "it never rests: {:#?}", &self.seen[begin + 960..]);
            for event in self.answer(&action) {
                self.state.handle(event, self.now);
            }
        }
    }

    fn answer(&mut self, action: &Action) -> Vec<Event> {
        let exit = |worker, status| {
            vec![Event::WorkerGone { worker, work: None }, Event::WorkerExited { worker, status }]
        };
        match *action {
            Action::Read { cycle } => vec![Event::Read { cycle, outline: self.outline }],
            Action::StartMold { generation, .. } => {
                let mut events = vec![Event::Configured { generation, plan: self.plan.clone() }];
                if generation == 1 {
                    events.push(Event::EdgeConfigured);
                }
                events.push(Event::MoldReady { generation });
                events
            }
            Action::StartEdge => vec![Event::EdgeConfigured],
            Action::SpawnWorker { worker, .. } => {
                let mut events = vec![Event::WorkerSpawned { worker, pid: 100 + worker as u32 }];
                if self.auto_ready {
                    events.push(Event::WorkerReady { worker });
                }
                events
            }
            Action::Drain { worker } if self.auto_exit => exit(worker, Status::Code(0)),
            Action::SignalWorker { worker, signal } if self.auto_exit || signal == 9 => {
                exit(worker, Status::Signal(signal))
            }
            Action::StopMold { generation } | Action::KillMold { generation } => {
                vec![Event::MoldGone { generation, status: Status::Code(0) }]
            }
            Action::StopEdge { .. } if self.auto_exit => {
                vec![Event::EdgeStopped, Event::EdgeGone { status: Status::Code(0) }]
            }
            Action::AbortMold { generation } if self.auto_exit => {
                vec![Event::MoldGone { generation, status: Status::Signal(6) }]
            }
            Action::KillEdge => vec![Event::EdgeGone { status: Status::Signal(9) }],
            Action::Hook { name: "on_exit", .. } => vec![Event::HookDone],
            Action::Exit { code } => {
                self.exit = Some(code);
                vec![]
            }
            _ => vec![],
        }
    }

    fn spawned(&self) -> Vec<u64> {
        self.seen
            .iter()
            .filter_map(|a| if let Action::SpawnWorker { worker, .. } = a { Some(*worker) } else { None })
            .collect()
    }

    fn drained(&self) -> Vec<u64> {
        self.seen
            .iter()
            .filter_map(|a| if let Action::Drain { worker } = a { Some(*worker) } else { None })
            .collect()
    }

    fn logged(&self, part: &str) -> bool {
        self.seen.iter().any(|a| matches!(a, Action::Log { text, .. } if text.contains(part)))
    }

    fn position(&self, wanted: &Action) -> usize {
        self.seen
            .iter()
            .position(|a| a == wanted)
            .unwrap_or_else(|| panic!("no {wanted:?} in {:#?}", self.seen))
    }

    fn exited(&mut self, worker: u64, status: Status) {
        self.event(Event::WorkerGone { worker, work: None });
        self.event(Event::WorkerExited { worker, status });
    }
}

/// A worker that crashes as soon as it is ready.
fn crash(w: &mut World, worker: u64, used: bool, finished: u64) {
    w.event(Event::WorkerExited { worker, status: Status::Signal(11) });
    w.event(Event::WorkerGone { worker, work: Some(Work { used, finished }) });
}

fn start_mold(generation: u64) -> Action {
    Action::StartMold { cycle: generation, application: 0, generation }
}

fn kill(worker: u64) -> Action {
    Action::SignalWorker { worker, signal: 9 }
}

fn overran(graceful: bool) -> Event {
    Event::WorkerOverran { worker: 1, method: "GET".into(), path: "/slow".into(), seconds: 30.04, graceful }
}

/// Random events in random order: never a panic, never more workers than twice the number wanted, and TERM ends it.
#[test]
fn nothing_that_happens_breaks_it() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    for round in 0..200 {
        let mut w = World::new(3);
        w.outline.applications = 1 + round % 3;
        w.state = State::new(if round % 5 == 0 { Manners::Nginx } else { Manners::Gunicorn }, w.outline);
        w.plan.boot_timeout = (round % 2 == 0).then_some(2 * S);
        w.run();
        for _ in 0..60 {
            w.auto_ready = random(4) != 0;
            w.auto_exit = random(4) != 0;
            let worker = 1 + random(w.state.last_worker.max(1));
            let generation = 1 + random(w.state.last_generation);
            let event = match random(16) {
                0 | 1 => Event::Signal(Signal::Hup),
                2 => Event::Signal(Signal::Ttin),
                3 => Event::Signal(Signal::Ttou),
                4 => {
                    let work = Work { used: random(2) == 0, finished: random(3) };
                    Event::WorkerGone { worker, work: (random(3) > 0).then_some(work) }
                }
                5 => Event::WorkerExited { worker, status: Status::Signal(11) },
                6 => Event::WorkerExited { worker, status: Status::Code(3) },
                7 => Event::WorkerRecycle { worker, reason: String::new() },
                8 => overran(random(2) == 0),
                9 => Event::WorkerReady { worker },
                10 => Event::WorkerDrained { worker },
                11 => Event::MoldGone { generation, status: Status::Signal(9) },
                12 => Event::EdgeGone { status: Status::Signal(9) },
                13 => Event::Changed { generation, worker, path: "a".into() },
                14 => Event::Resident { worker, bytes: 1 << 40 },
                _ => Event::MoldFailed { generation, code: 3, text: "no".into() },
            };
            w.event(event);
            w.wait(Duration::from_millis(random(5000)));
            if w.exit.is_some() {
                break;
            }
        }
        w.auto_exit = true;
        w.event(Event::Signal(if w.state.is_nginx() { Signal::Quit } else { Signal::Term }));
        w.wait(120 * S);
        assert!(w.exit.is_some());
    }
}
