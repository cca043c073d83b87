//! The first configuration: what it takes to serve, and what ends the start.

use super::*;

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
fn term_while_the_first_generation_boots_ends_with_zero() {
    let mut w = World::new(2);
    w.auto_ready = false;
    w.run();
    w.event(Event::Signal(Signal::Term));
    w.wait(5 * S);
    assert_eq!(w.exit, Some(0));
}
