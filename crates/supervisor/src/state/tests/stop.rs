//! The end.

use super::*;

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
fn what_waits_for_an_application_without_processes_is_not_waited_for() {
    let abandon = Action::Abandon { application: 0 };
    let mut w = World::serving(2);
    w.auto_exit = false;
    // Nobody brings up what takes its place.
    w.state.handle(Event::MoldGone { generation: 1, status: Status::Signal(9) }, w.now);
    w.state.actions.clear();
    w.exited(1, Status::Signal(9));
    w.event(Event::Signal(Signal::Term));
    assert!(!w.seen.contains(&abandon), "one is left, and answers");
    w.exited(2, Status::Signal(9));
    w.wait(S);
    assert_eq!(w.seen.iter().filter(|a| **a == abandon).count(), 1);
    assert!(!w.seen.iter().any(|a| matches!(a, Action::KillEdge)), "it may have downloads to finish");
    w.event(Event::EdgeStopped);
    w.event(Event::EdgeGone { status: Status::Code(0) });
    w.event(Event::MoldGone { generation: 2, status: Status::Signal(9) });
    assert_eq!(w.exit, Some(0));
}

#[test]
fn what_waits_for_an_application_that_does_not_boot_any_more_is_not_waited_for() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Term));
    w.exited(1, Status::Code(0));
    for worker in 2..=6 {
        assert!(!w.seen.contains(&Action::Abandon { application: 0 }));
        w.exited(worker, Status::Code(3));
        w.wait(S);
    }
    assert!(w.seen.contains(&Action::Abandon { application: 0 }));
    assert_eq!(w.spawned(), [2, 3, 4, 5, 6]);
}

#[test]
fn a_mold_that_can_still_fork_answers_what_waits_at_the_end() {
    let mut w = World::serving(1);
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Term));
    w.exited(1, Status::Signal(9));
    assert!(!w.seen.contains(&Action::Abandon { application: 0 }));
    assert_eq!(w.spawned(), [2]);
}

#[test]
fn a_mold_that_hangs_is_not_waited_for_once_more_in_a_hook() {
    let mut w = World::serving(1);
    w.state.handle(Event::Signal(Signal::Int), w.now);
    w.state.handle(Event::EdgeGone { status: Status::Code(0) }, w.now);
    // Its worker has got QUIT, and then KILL, and nobody says that it has ended.
    for _ in 0..3 {
        w.now += 2 * S;
        w.state.tick(w.now);
    }
    let actions: Vec<Action> = std::iter::from_fn(|| w.state.next_action()).collect();
    assert!(!actions.iter().any(|a| matches!(a, Action::Hook { name: "on_exit", .. })), "{actions:?}");
    let killed = actions.iter().position(|a| *a == Action::KillMold { generation: 1 });
    assert!(killed < actions.iter().position(|a| *a == Action::Exit { code: 0 }) && killed.is_some());
}
