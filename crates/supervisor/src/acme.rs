//! The process that orders certificates: started when some are wanted, started again when it ends, and what it has for
//! the edge handed on.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bridge::control::{FromAcme, Received, ToAcme, ToEdge};
use config::model::Model;
use config::model::acme::{Answer, Mandate};
use config::model::tls::Contents;
use rustix::process::Pid;
use serde_json::Value;

use crate::channel::{Channel, Incoming};
use crate::children;
use crate::master::Master;
use crate::mold::Launch;
use crate::state::{Status, Time};

/// Messages that are taken in one turn.
const BATCH: usize = 64;
/// Answers that it may have at once.
const MOST_CHALLENGES: usize = 10_000;
/// A process that lived this long did not fail at its start.
const LONG_LIFE: Duration = Duration::from_secs(60);
/// The longest pause before it is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the master knows of it.
#[derive(Debug, Default)]
pub(crate) struct Acme {
    process: Option<Process>,
    /// The edge accepts connections, so that an authority finds what it looks for.
    pub(crate) is_open: bool,
    /// Ends in a row that came early.
    failures: u32,
    /// Not before.
    next: Time,
    /// Answers that are in the edge, or would be if there were one.
    challenges: BTreeMap<u64, Value>,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    channel: Channel<ToAcme>,
    since: Time,
    closed: bool,
}

/// Gives the certificates that are ordered what is on the disk, or something for the meantime, so that the edge never is
/// without.
pub(crate) fn fill(model: &mut Model) -> Result<(), String> {
    if let Some(local) = &model.acme.local {
        let contents = ::acme::local::contents(local).map_err(|why| format!("tls: {why}"))?;
        for certificate in model.tls.certificates.iter_mut().filter(|c| c.name == local.name) {
            certificate.contents = Some(contents.clone());
        }
    }
    for order in &model.acme.certificates {
        let certificates = model.tls.certificates.iter_mut();
        for certificate in certificates.filter(|c| c.files.is_none() && c.name == order.name) {
            certificate.contents = ::acme::program::contents(order, &model.acme.issuers);
        }
    }
    Ok(())
}

impl Acme {
    /// When there is something to do.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (self.is_open && self.process.is_none()).then_some(self.next)
    }

    pub(crate) fn channel(&self) -> Option<&Channel<ToAcme>> {
        self.process.as_ref().filter(|process| !process.closed).map(|process| &process.channel)
    }

    /// Messages go elsewhere from now on.
    pub(crate) fn reopen(&mut self, log: Vec<std::os::fd::OwnedFd>) {
        if let Some(process) = &mut self.process {
            process.channel.send(ToAcme::Reopen {}, None, log);
        }
    }
}

impl Master {
    /// Whether certificates are to be ordered.
    pub(crate) fn wants_acme(&self) -> bool {
        self.prepared().is_some_and(|prepared| {
            let acme = &prepared.model.acme;
            !acme.certificates.is_empty() || !acme.on_demand.is_empty()
        })
    }

    /// Starts the process if it is wanted and not there, and lets it end if it is not wanted any more.
    pub(crate) fn tend_acme(&mut self) {
        let is_wanted = self.wants_acme();
        if self.acme.process.is_some() {
            if !is_wanted {
                // A closed channel is its order to end.
                self.acme.process = None;
                self.forget_challenges();
            }
            return;
        }
        let now = self.begin.elapsed();
        if !is_wanted || !self.acme.is_open || now < self.acme.next {
            return;
        }
        let started = Launch::acme().and_then(|(pid, socket)| Ok((pid, Channel::new(socket)?)));
        match started {
            Ok((pid, channel)) => {
                self.acme.process = Some(Process { pid, channel, since: now, closed: false });
                self.configure_acme();
            }
            Err(error) => {
                telemetry::error!("The process for certificates cannot be started: {}", error);
                self.rest_acme(now);
            }
        }
    }

    /// Tells it what is wanted.
    pub(crate) fn configure_acme(&mut self) {
        let Some(mandate) = self.prepared().and_then(|prepared| mandate(&prepared.model).ok()) else {
            return;
        };
        if let Some(process) = &mut self.acme.process {
            process.channel.send(ToAcme::Configure {}, Some(mandate), vec![]);
        }
    }

    /// Whether this was it.
    pub(crate) fn acme_ended(&mut self, pid: Pid, status: Status) -> bool {
        if self.acme.process.as_ref().is_none_or(|process| process.pid != pid) {
            return false;
        }
        self.take_from_acme();
        let now = self.begin.elapsed();
        if let Some(process) = self.acme.process.take()
            && now.saturating_sub(process.since) > LONG_LIFE
        {
            self.acme.failures = 0;
        }
        telemetry::error!("The process for certificates {}; it is started again", status);
        self.forget_challenges();
        self.rest_acme(now);
        true
    }

    fn rest_acme(&mut self, now: Time) {
        let pause = Duration::from_millis(500) * 2_u32.saturating_pow(self.acme.failures.min(10));
        self.acme.failures = self.acme.failures.saturating_add(1);
        self.acme.next = now + pause.min(LONGEST_PAUSE);
    }

    pub(crate) fn take_from_acme(&mut self) {
        for _ in 0..BATCH {
            let Some(process) = self.acme.process.as_mut().filter(|process| !process.closed) else { return };
            process.channel.flush();
            match process.channel.receive::<FromAcme>() {
                Incoming::Message(received) => self.acme_says(&received),
                Incoming::Nothing => return,
                Incoming::Gone => process.closed = true,
                Incoming::Broken(error) => {
                    telemetry::error!("The process for certificates cannot be understood: {}", error);
                    process.closed = true;
                    children::kill(process.pid);
                }
            }
        }
    }

    fn acme_says(&mut self, received: &Received<FromAcme>) {
        let outcome = match &received.message {
            FromAcme::Certificate { name } => received.body().map(|contents| self.renewed(name, &contents)),
            FromAcme::Challenge { number } => received.body::<Answer>().and_then(|answer| {
                if self.acme.challenges.len() < MOST_CHALLENGES {
                    let answer = serde_json::to_value(answer)?;
                    self.acme.challenges.insert(*number, answer.clone());
                    self.pass_on(ToEdge::Challenge { number: *number }, Some(answer));
                }
                Ok(())
            }),
            FromAcme::OnDemand { demand, name, again } => {
                let body = received.body.as_deref().map(serde_json::from_slice).transpose();
                body.map_err(io::Error::from).map(|contents| {
                    let (demand, name) = (demand.clone(), name.clone());
                    self.pass_on(ToEdge::OnDemand { demand, name, again: *again }, contents);
                })
            }
            FromAcme::ChallengeGone { number } => {
                self.acme.challenges.remove(number);
                self.pass_on(ToEdge::ChallengeGone { number: *number }, None);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            telemetry::error!("The process for certificates cannot be understood: {}", error);
        }
    }

    /// A certificate for the edge, now and when it starts anew.
    fn renewed(&mut self, name: &str, contents: &Contents) {
        self.replace_certificate(name, contents, |certificate| certificate.files.is_none());
    }

    /// An edge that has just been started has none of the answers.
    pub(crate) fn repeat_challenges(&mut self) {
        for (number, answer) in self.acme.challenges.clone() {
            self.pass_on(ToEdge::Challenge { number }, Some(answer));
        }
    }

    /// The edge has it in its place.
    pub(crate) fn challenge_set(&mut self, number: u64) {
        if let Some(process) = &mut self.acme.process {
            process.channel.send(ToAcme::ChallengeSet { number }, None, vec![]);
        }
    }

    /// A client of the edge's has asked for a name.
    pub(crate) fn wanted(&mut self, demand: String, name: String) {
        match self.acme.process.as_mut().filter(|process| !process.closed) {
            Some(process) => process.channel.send(ToAcme::Wanted { demand, name }, None, vec![]),
            // It comes soon.
            None => self.pass_on(ToEdge::OnDemand { demand, name, again: 1 }, None),
        }
    }

    fn forget_challenges(&mut self) {
        for number in std::mem::take(&mut self.acme.challenges).into_keys() {
            self.pass_on(ToEdge::ChallengeGone { number }, None);
        }
    }

    pub(crate) fn pass_on(&mut self, message: ToEdge, body: Option<Value>) {
        if let Some(edge) = &mut self.edge {
            edge.channel.send(message, body, vec![]);
        }
    }
}

fn mandate(model: &Model) -> io::Result<Value> {
    let mandate = Mandate {
        acme: model.acme.clone(),
        uid: model.process.uid,
        gid: model.process.gid,
        logs: model.logs.clone(),
    };
    Ok(serde_json::to_value(mandate)?)
}
