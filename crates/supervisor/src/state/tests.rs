use super::*;

mod boot;
mod cycles;

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

#[test]
fn the_edge_accepts_when_every_worker_is_ready() {
    let mut w = World::new(2);
    w.auto_ready = false;
    w.run();
    assert_eq!(w.spawned(), [1, 2]);
    w.event(Event::WorkerReady { worker: 2 });
    assert!(!w.seen.contains(&Action::Accept));
    w.event(Event::WorkerReady { worker: 1 });
    assert!(w.position(&Action::Accept) < w.position(&Action::Announce));
    let hook = Action::Hook { generation: 1, name: "when_ready", arguments: vec![] };
    assert_eq!(w.position(&hook), w.seen.len() - 1);
}

#[test]
fn a_first_generation_that_does_not_boot_ends_with_gunicorns_codes() {
    for (status, code, words) in [
        (Status::Code(3), 3, "Worker failed to boot."),
        (Status::Code(4), 4, "App failed to load."),
        (Status::Code(1), 3, "Worker failed to boot."),
    ] {
        let mut w = World::new(2);
        w.auto_ready = false;
        w.run();
        w.exited(1, status);
        assert_eq!(w.exit, Some(code));
        assert!(w.logged(words));
        assert!(w.seen.contains(&kill(2)), "its sister ends too");
        assert!(w.seen.contains(&Action::StopMold { generation: 1 }));
    }
}

#[test]
fn a_mold_that_fails_ends_the_start() {
    let mut w = World::new(1);
    let Some(Action::StartMold { generation: 1, .. }) = w.state.next_action() else { panic!() };
    w.event(Event::MoldFailed { generation: 1, code: 1, text: "Failed to read config file".into() });
    w.event(Event::MoldGone { generation: 1, status: Status::Code(1) });
    assert!(w.logged("Failed to read config file"));
    w.wait(10 * S);
    assert_eq!(w.exit, Some(1));
}

#[test]
fn a_hook_that_ends_the_program_gives_its_code() {
    let mut w = World::serving(1);
    w.event(Event::MoldFailed {
        generation: 1,
        code: 7,
        text: "The hook child_exit called sys.exit(7)".into(),
    });
    assert!(w.logged("sys.exit(7)"));
    assert!(w.seen.iter().any(|a| matches!(a, Action::StopEdge { graceful: true, .. })));
    w.wait(60 * S);
    assert_eq!(w.exit, Some(7));
}

#[test]
fn an_edge_that_never_came_up_ends_the_start() {
    let mut w = World::new(1);
    let Some(Action::StartMold { .. }) = w.state.next_action() else { panic!() };
    w.event(Event::EdgeFatal { text: "no memory".into() });
    w.event(Event::EdgeGone { status: Status::Code(1) });
    assert!(w.logged("exited with code 1: no memory"));
    w.event(Event::MoldGone { generation: 1, status: Status::Code(0) });
    assert_eq!(w.exit, Some(1));
}

#[test]
fn a_worker_that_dies_is_replaced_at_once_and_named_in_words() {
    let mut w = World::serving(2);
    w.now += 60 * S;
    w.event(Event::WorkerGone { worker: 1, work: None });
    assert!(w.spawned().is_empty(), "gone from the edge is not dead yet");
    w.event(Event::WorkerExited { worker: 1, status: Status::Signal(9) });
    assert_eq!(w.spawned(), [3]);
    assert!(w.logged("SIGKILL (perhaps out of memory)"));
    assert!(w.seen.contains(&Action::Forget { worker: 1 }));
}

#[test]
fn killing_from_outside_never_slows_down() {
    let mut w = World::serving(1);
    for worker in 1..=100 {
        w.now += Duration::from_millis(200);
        w.exited(worker, Status::Signal(9));
        assert_eq!(w.spawned().last(), Some(&(worker + 1)));
    }
}

#[test]
fn requests_that_crash_their_workers_keep_no_other_request_waiting() {
    let mut w = World::serving(4);
    for round in 0..50 {
        // It is run a second time, and ends another worker, before anything else is answered.
        let newest = *w.spawned().last().unwrap_or(&4);
        crash(&mut w, newest, true, 10 + round);
        assert_eq!(w.spawned().last(), Some(&(newest + 1)));
        crash(&mut w, newest + 1, true, 10 + round);
        assert_eq!(w.spawned().last(), Some(&(newest + 2)), "at once");
        w.now += Duration::from_millis(500);
    }
    assert!(!w.logged("die as soon as they start"));
}

#[test]
fn a_crash_over_a_request_ends_a_loop_of_crashes_that_is_over() {
    let mut w = World::serving(2);
    for worker in 2..6 {
        crash(&mut w, worker, false, 0);
        w.wait(Duration::from_millis(900));
    }
    assert!(w.logged("(4 in a row)"));
    assert_eq!(w.spawned().last(), Some(&6));
    crash(&mut w, 6, true, 1);
    assert_eq!(w.spawned().last(), Some(&7), "others were answered");
    crash(&mut w, 7, false, 1);
    assert_eq!(w.spawned().last(), Some(&8), "it is the first one again");
}

#[test]
fn crashing_at_once_is_slowed_down_while_others_answer() {
    let mut w = World::serving(4);
    for round in 0..4 {
        crash(&mut w, 4 + round, false, 100 * round);
        w.wait(Duration::from_millis(900));
    }
    assert!(w.logged("Workers die as soon as they start (4 in a row); the next one starts in 0.4 s"));
}

#[test]
fn crashing_over_every_request_is_slowed_down() {
    let mut w = World::serving(1);
    for worker in 1..=6 {
        crash(&mut w, worker, true, 0);
        w.wait(Duration::from_millis(100));
    }
    assert!(w.logged("Workers die over their first requests (6 in a row); the next one starts in 0.1 s"));
}

#[test]
fn nobody_takes_the_place_of_a_quick_death_before_the_edge_has_said_of_what() {
    let mut w = World::serving(1);
    crash(&mut w, 1, false, 0);
    w.event(Event::WorkerExited { worker: 2, status: Status::Signal(11) });
    assert_eq!(w.spawned(), [2]);
    w.event(Event::WorkerGone { worker: 2, work: Some(Work { used: false, finished: 0 }) });
    assert_eq!(w.spawned(), [2], "slowed down");
    w.wait(Duration::from_millis(100));
    assert_eq!(w.spawned(), [2, 3]);
    // An edge that dies does not say it.
    w.event(Event::WorkerExited { worker: 3, status: Status::Signal(11) });
    w.event(Event::EdgeGone { status: Status::Signal(9) });
    w.wait(S);
    assert_eq!(w.spawned(), [2, 3, 4]);
}

#[test]
fn a_death_over_a_request_is_no_failed_boot_whichever_word_comes_first() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    for worker in 1..6 {
        // From the third on they boot as the master sees it.
        w.event(Event::WorkerExited { worker, status: Status::Code(9) });
        if worker > 2 {
            assert!(w.seen.contains(&Action::TellExited { worker }));
            assert_eq!(w.spawned().len(), worker as usize - 1, "nobody takes its place yet");
            w.event(Event::WorkerReady { worker });
        }
        let work = Work { used: true, finished: worker };
        w.event(Event::WorkerGone { worker, work: Some(work) });
        assert_eq!(w.spawned().len(), worker as usize);
    }
    assert!(!w.logged("before it was ready") && !w.logged("Workers die"));
    // One that was not ready died while it booted.
    w.event(Event::WorkerExited { worker: 6, status: Status::Code(9) });
    w.event(Event::WorkerGone { worker: 6, work: Some(Work { used: false, finished: 5 }) });
    assert!(w.logged("Worker (pid:106) exited with code 9 before it was ready"));
}

#[test]
fn a_reload_is_not_given_up_over_a_request_that_crashes_a_new_worker() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.event(Event::WorkerExited { worker: 2, status: Status::Code(9) });
    w.event(Event::WorkerReady { worker: 2 });
    w.event(Event::WorkerGone { worker: 2, work: Some(Work { used: true, finished: 7 }) });
    assert_eq!(w.spawned(), [2, 3]);
    w.event(Event::WorkerReady { worker: 3 });
    assert_eq!(w.drained(), [1]);
}

#[test]
fn crashing_in_a_loop_is_slowed_down_with_words() {
    let mut w = World::serving(1);
    w.exited(1, Status::Signal(11));
    assert_eq!(w.spawned(), [2], "the first at once");
    w.exited(2, Status::Signal(11));
    assert_eq!(w.spawned(), [2]);
    assert!(w.logged("(2 in a row); the next one starts in 0.1 s"));
    assert_eq!(w.state.deadline(), Some(Duration::from_millis(100)));
    w.wait(Duration::from_millis(100));
    assert_eq!(w.spawned(), [2, 3]);
    w.exited(3, Status::Signal(11));
    assert!(w.logged("(3 in a row); the next one starts in 0.2 s"));
}

#[test]
fn a_replacement_that_does_not_boot_is_tried_again_later() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    w.exited(1, Status::Signal(9));
    w.exited(3, Status::Code(3));
    assert_eq!(w.exit, None);
    w.exited(4, Status::Code(3));
    assert_eq!(w.spawned(), [3, 4]);
    w.wait(S);
    assert_eq!(w.spawned(), [3, 4, 5]);
}

#[test]
fn recycling_brings_the_new_worker_first() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::WorkerRecycle { worker: 1, reason: "max_requests".into() });
    w.event(Event::WorkerRecycle { worker: 1, reason: "max_requests".into() });
    assert_eq!((w.spawned(), w.drained()), (vec![2], vec![]));
    w.event(Event::WorkerReady { worker: 2 });
    assert_eq!(w.drained(), [1]);
    assert_eq!(w.spawned(), [2], "and no third");
}

#[test]
fn a_worker_over_its_memory_limit_is_recycled() {
    let mut w = World::serving(1);
    assert_eq!(w.state.measured().collect::<Vec<_>>(), [(1, 101)]);
    w.event(Event::Resident { worker: 1, bytes: 100 << 20 });
    assert!(w.spawned().is_empty());
    w.event(Event::Resident { worker: 1, bytes: 130 << 20 });
    assert!(w.logged("it holds 130 MiB, max_worker_rss is 100 MiB"));
    assert_eq!((w.spawned(), w.drained()), (vec![2], vec![1]));
}

#[test]
fn a_drained_worker_that_stays_is_killed_after_graceful_timeout() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(Event::WorkerRecycle { worker: 1, reason: String::new() });
    w.wait(29 * S);
    assert!(!w.seen.contains(&kill(1)));
    w.wait(2 * S);
    assert!(w.seen.contains(&kill(1)));
    assert!(w.logged("did not finish within graceful_timeout"));
}

#[test]
fn a_drained_worker_is_told_to_end() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(Event::WorkerRecycle { worker: 1, reason: String::new() });
    w.event(Event::WorkerDrained { worker: 1 });
    assert!(w.seen.contains(&Action::SignalWorker { worker: 1, signal: 15 }));
}

fn overran(graceful: bool) -> Event {
    Event::WorkerOverran { worker: 1, method: "GET".into(), path: "/slow".into(), seconds: 30.04, graceful }
}

#[test]
fn a_stuck_worker_gets_abrt_then_kill_and_a_successor_when_it_is_dead() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(overran(false));
    assert!(w.logged("WORKER TIMEOUT (pid:101): GET /slow has run for 30.0 s"));
    assert!(w.seen.contains(&Action::SignalWorker { worker: 1, signal: 6 }));
    assert!(w.logged("\"Fatal Python error: Aborted\" before them mean this order, and no crash"));
    assert_eq!(w.spawned(), [2]);
    assert!(!w.seen.contains(&kill(1)));
    w.wait(2 * S);
    assert!(w.seen.contains(&kill(1)));
}

#[test]
fn a_worker_that_is_silent_is_ended_unless_it_is_at_its_end_anyway() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    let silent = Event::WorkerSilent { worker: 1, seconds: 30.0 };
    w.event(silent.clone());
    assert!(w.logged("WORKER TIMEOUT (pid:101): it has been busy for 30.0 s without a request"));
    assert!(w.seen.contains(&Action::SignalWorker { worker: 1, signal: 6 }));
    let count = w.seen.len();
    w.event(silent);
    assert_eq!(w.seen.len(), count);
}

#[test]
fn the_edge_hears_of_a_death_that_a_socket_does_not_tell() {
    let mut w = World::serving(1);
    w.event(Event::WorkerExited { worker: 1, status: Status::Signal(9) });
    assert!(w.seen.contains(&Action::TellExited { worker: 1 }));
    let mut w = World::serving(1);
    w.exited(1, Status::Signal(9));
    assert!(!w.seen.contains(&Action::TellExited { worker: 1 }));
}

#[test]
fn workers_have_the_rest_of_the_graceful_time() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Term));
    w.wait(10 * S);
    w.event(Event::EdgeStopped);
    w.wait(19 * S);
    assert!(!w.seen.contains(&kill(1)));
    w.wait(2 * S);
    assert!(w.seen.contains(&kill(1)) && w.logged("did not end within graceful_timeout; killing it"));
}

#[test]
fn a_stuck_thread_lets_its_neighbours_finish_first() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(overran(true));
    assert_eq!((w.spawned(), w.drained()), (vec![2], vec![1]));
    // It shows its stacks and goes on.
    let signals = |w: &World| -> Vec<i32> {
        let of = |a: &Action| if let Action::SignalWorker { signal, .. } = a { Some(*signal) } else { None };
        w.seen.iter().filter_map(of).collect()
    };
    assert_eq!(signals(&w), [16]);
    w.wait(30 * S);
    assert_eq!(signals(&w), [16, 6]);
    w.wait(2 * S);
    assert!(w.seen.contains(&kill(1)));
}

#[test]
fn a_reload_switches_when_all_of_the_new_generation_is_ready() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    assert_eq!(w.spawned(), [3, 4]);
    w.event(Event::WorkerReady { worker: 3 });
    assert!(w.drained().is_empty());
    w.event(Event::WorkerReady { worker: 4 });
    assert_eq!(w.drained(), [1, 2]);
    let configure = w.position(&Action::ConfigureEdge { cycle: 2 });
    assert!(configure < w.position(&Action::Drain { worker: 1 }));
    assert!(w.position(&Action::StopMold { generation: 1 }) > configure);
    assert!(!w.seen.iter().any(|a| matches!(a, Action::Hook { .. } | Action::Accept)));
}

#[test]
fn a_reload_that_fails_leaves_the_old_generation() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.exited(2, Status::Code(3));
    assert_eq!(w.exit, None);
    assert!(w.logged("Generation 2 did not boot; the old one goes on serving"));
    assert!(w.seen.contains(&Action::Discard { cycle: 2 }));
    assert!(w.seen.contains(&Action::StopMold { generation: 2 }));
    assert!(w.drained().is_empty());
    w.exited(1, Status::Signal(9));
    assert_eq!(w.spawned(), [2, 3], "the old mold still forks");
}

#[test]
fn a_booting_worker_killed_from_outside_does_not_fail_the_reload() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.exited(2, Status::Signal(9));
    w.event(Event::WorkerReady { worker: 3 });
    assert_eq!(w.drained(), [1]);
}

#[test]
fn hangups_during_a_reload_are_one_more() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    for _ in 0..5 {
        w.event(Event::Signal(Signal::Hup));
    }
    assert_eq!(w.spawned(), [2]);
    w.auto_ready = true;
    w.event(Event::WorkerReady { worker: 2 });
    assert_eq!(w.spawned(), [2, 3]);
    assert_eq!(w.drained(), [1, 2]);
}

#[test]
fn a_change_is_told_by_every_worker_and_reloads_once() {
    let mut w = World::serving(3);
    w.auto_ready = false;
    let change = |worker| Event::Changed { generation: 1, worker, path: "/srv/shop/app.py".into() };
    for worker in [2, 1, 3] {
        w.event(change(worker));
    }
    assert!(w.logged("app.py changed; reloading"));
    assert_eq!(w.state.last_generation, 2);
    assert!(!w.state.reload_again);
    w.event(change(1));
    assert!(w.state.reload_again, "a second change is another reload");
}

#[test]
fn ttin_and_ttou_change_the_number_and_never_below_one() {
    let mut w = World::serving(1);
    w.event(Event::Signal(Signal::Ttin));
    assert_eq!(w.spawned(), [2]);
    assert!(w.seen.contains(&Action::Hook {
        generation: 1,
        name: "nworkers_changed",
        arguments: vec![2, 1]
    }));
    w.event(Event::Signal(Signal::Ttou));
    assert_eq!(w.drained(), [1], "the oldest goes");
    w.event(Event::Signal(Signal::Ttou));
    assert_eq!(w.drained(), [1]);
    assert_eq!(w.spawned(), [2]);
}

#[test]
fn ttin_while_the_first_workers_boot_counts() {
    let mut w = World::new(1);
    w.auto_ready = false;
    // Before the settings are known, and after.
    w.state.handle(Event::Signal(Signal::Ttin), w.now);
    w.run();
    assert_eq!(w.spawned(), [1, 2]);
    w.event(Event::Signal(Signal::Ttin));
    assert_eq!(w.spawned(), [1, 2, 3]);
    for (new, old) in [(2, 1), (3, 2)] {
        let arguments = vec![new, old];
        w.position(&Action::Hook { generation: 1, name: "nworkers_changed", arguments });
    }
}

#[test]
fn ttin_during_a_reload_is_for_both_generations() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.event(Event::Signal(Signal::Ttin));
    assert_eq!(w.spawned(), [2, 3, 4], "one of them is the old generation's");
    assert_eq!((w.state.generations[&1].target, w.state.generations[&2].target), (2, 2));
}

#[test]
fn how_a_reload_would_have_gone_is_of_no_interest_at_the_end() {
    for mode in [Signal::Term, Signal::Int] {
        let mut w = World::serving(1);
        w.auto_ready = false;
        w.auto_exit = false;
        w.event(Event::Signal(Signal::Hup));
        w.event(Event::Signal(mode));
        assert!(w.seen.contains(&Action::Discard { cycle: 2 }) && w.seen.contains(&kill(2)));
        w.event(Event::MoldFailed { generation: 2, code: 3, text: "no database".into() });
        assert!(!w.logged("no database") && !w.logged("did not boot"), "{:#?}", w.seen);
        w.auto_exit = true;
        w.wait(60 * S);
        assert_eq!(w.exit, Some(0));
    }
}

#[test]
fn a_mold_that_still_imports_at_the_end_is_not_waited_for() {
    let mut w = World::serving(1);
    w.state.handle(Event::Signal(Signal::Hup), w.now);
    let begun = Action::Read { cycle: 2 };
    while w.state.next_action().is_some_and(|action| action != begun) {}
    w.state.handle(Event::Read { cycle: 2, outline: OUTLINE }, w.now);
    while w.state.next_action().is_some_and(|action| action != start_mold(2)) {}
    w.event(Event::Signal(Signal::Term));
    assert!(
        w.position(&Action::KillMold { generation: 2 }) < w.position(&Action::StopMold { generation: 1 })
    );
    assert_eq!(w.exit, Some(0));
}

#[test]
fn term_lets_the_edge_finish_then_ends_workers_hook_and_molds() {
    let mut w = World::serving(2);
    w.event(Event::Signal(Signal::Term));
    assert_eq!(w.exit, Some(0));
    let order: Vec<usize> = [
        Action::StopEdge { graceful: true, seconds: 30 },
        Action::SignalWorker { worker: 1, signal: 15 },
        Action::Hook { generation: 1, name: "on_exit", arguments: vec![] },
        Action::StopMold { generation: 1 },
        Action::Exit { code: 0 },
    ]
    .iter()
    .map(|a| w.position(a))
    .collect();
    assert!(order.is_sorted(), "{:#?}", w.seen);
    assert!(w.spawned().is_empty(), "nobody is replaced");
}

#[test]
fn a_second_term_changes_nothing_and_int_after_it_is_quick() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Term));
    w.wait(S);
    w.seen.clear();
    w.event(Event::Signal(Signal::Term));
    assert!(w.logged("INT or QUIT ends at once"));
    assert_eq!(w.seen.len(), 1, "{:?}", w.seen);
    w.event(Event::Signal(Signal::Int));
    assert!(w.seen.contains(&Action::StopEdge { graceful: false, seconds: 0 }));
    assert!(w.seen.contains(&Action::SignalWorker { worker: 1, signal: 3 }));
    w.wait(5 * S);
    assert!(w.seen.contains(&kill(1)) && w.seen.contains(&Action::KillEdge));
    assert_eq!(w.exit, Some(0));
}

#[test]
fn term_for_every_process_of_a_service_leaves_nobody_waiting() {
    let mut w = World::serving(2);
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Term));
    w.seen.clear();
    // Both had it too, and have finished what they ran.
    w.exited(1, Status::Code(0));
    assert!(w.spawned().is_empty(), "one is left");
    w.exited(2, Status::Code(0));
    assert_eq!(w.spawned(), [3, 4]);
    w.event(Event::EdgeStopped);
    w.seen.clear();
    w.exited(3, Status::Code(0));
    w.exited(4, Status::Code(0));
    assert!(w.spawned().is_empty(), "there is nothing left to do");
}

#[test]
fn int_is_quick_and_a_third_one_kills() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Int));
    assert!(w.seen.contains(&Action::StopEdge { graceful: false, seconds: 0 }));
    w.event(Event::Signal(Signal::Int));
    assert_eq!(w.exit, Some(0));
    assert!(w.seen.contains(&kill(1)));
}

#[test]
fn an_edge_that_does_not_finish_is_killed() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Term));
    w.wait(30 * S);
    assert!(!w.seen.contains(&Action::KillEdge));
    w.wait(10 * S);
    assert!(w.seen.contains(&Action::KillEdge));
    assert_eq!(w.exit, Some(0));
}

#[test]
fn an_end_that_nobody_reports_still_ends() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(Event::EdgeGone { status: Status::Signal(9) });
    w.seen.clear();
    w.state.handle(Event::Signal(Signal::Quit), w.now);
    // Actions get lost: no process, no mold answers.
    while w.state.next_action().is_some() {}
    for _ in 0..10 {
        w.now += 3 * S;
        w.state.tick(w.now);
        while let Some(action) = w.state.next_action() {
            if let Action::Exit { code } = action {
                w.exit = Some(code);
            }
        }
        w.now += 10 * S;
    }
    assert_eq!(w.exit, Some(0));
}

#[test]
fn a_dead_edge_comes_back_with_new_workers_and_accepts_again() {
    let mut w = World::serving(2);
    w.event(Event::EdgeGone { status: Status::Signal(11) });
    assert!(w.seen.contains(&kill(1)) && w.seen.contains(&kill(2)), "their sockets are gone");
    assert!(w.spawned().is_empty(), "not before there is an edge");
    w.wait(Duration::ZERO);
    assert!(w.position(&Action::StartEdge) < w.position(&Action::Accept));
    assert_eq!(w.spawned(), [3, 4]);
    w.event(Event::EdgeGone { status: Status::Signal(11) });
    assert!(w.logged("Another edge starts in 0.1 s"));
}

#[test]
fn a_dead_mold_makes_a_new_generation_and_its_workers_go_on() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::MoldGone { generation: 1, status: Status::Signal(9) });
    assert!(w.seen.contains(&start_mold(2)));
    assert!(w.drained().is_empty());
    w.event(Event::MoldGone { generation: 2, status: Status::Signal(9) });
    assert_eq!(w.state.last_generation, 2, "not at once");
    w.wait(S);
    assert_eq!(w.state.last_generation, 3);
    w.auto_ready = true;
    let last = *w.spawned().last().unwrap();
    w.event(Event::WorkerReady { worker: last });
    assert_eq!(w.drained(), [1]);
    assert_eq!(w.state.generations.len(), 1);
}

#[test]
fn a_worker_of_a_dead_mold_is_not_replaced_by_that_mold() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    w.event(Event::MoldGone { generation: 1, status: Status::Signal(9) });
    w.seen.clear();
    w.exited(1, Status::Signal(9));
    assert!(w.spawned().is_empty());
}

#[test]
fn logs_are_reopened_and_what_is_not_there_says_so() {
    let mut w = World::serving(1);
    w.event(Event::Signal(Signal::Usr1));
    assert!(w.seen.contains(&Action::ReopenLogs));
    w.event(Event::Signal(Signal::Usr2));
    w.event(Event::Signal(Signal::Winch));
    assert!(w.logged("USR2") && w.logged("WINCH"));
    assert_eq!(w.exit, None);
}

#[test]
fn term_while_the_first_generation_boots_ends_with_zero() {
    let mut w = World::new(2);
    w.auto_ready = false;
    w.run();
    w.event(Event::Signal(Signal::Term));
    w.wait(5 * S);
    assert_eq!(w.exit, Some(0));
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
        w.event(Event::Signal(Signal::Term));
        w.wait(120 * S);
        assert!(w.exit.is_some());
    }
}
