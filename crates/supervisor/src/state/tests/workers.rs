//! Workers that die, are replaced, or have to be ended.

use super::*;

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
