//! A configuration as all event loops share it.

use std::io;
use std::sync::Arc;

use cache::Caches;
use config::model::Model;
use limits::Zones;
use telemetry::AccessLogs;
use upstream::Group;

use crate::tls::Offers;

/// The model, and what of it exists once in the process.
pub struct Configuration {
    /// What the master sent.
    pub model: Model,
    /// What `limit_req` and `limit_conn` count.
    pub zones: Zones,
    /// What is offered to clients that speak TLS.
    pub tls: Offers,
    /// Groups of servers that requests are passed on to, in the model's order.
    pub groups: Vec<Arc<Group>>,
    /// What is kept of answers.
    pub caches: Caches,
    /// nginx's access logs; `None` by gunicorn's command line.
    pub logs: Option<Arc<AccessLogs>>,
}

impl Configuration {
    /// Opens what the model names. What `before` counted is kept.
    pub fn open(model: Model, before: Option<&Self>) -> io::Result<Arc<Self>> {
        let http = model.http.as_deref();
        let zones = http.map_or(&[][..], |http| http.zones.as_slice());
        let zones = Zones::new(zones, before.map(|before| &before.zones));
        let tls = Offers::open(&model, before.map(|before| &before.tls)).map_err(io::Error::other)?;
        let logs = http.map(AccessLogs::open).transpose().map_err(io::Error::other)?;
        let groups = http.map_or_else(Vec::new, |http| {
            let before = before.map_or(&[][..], |before| &before.groups);
            let groups = (0..).zip(&http.upstreams).map(|(id, upstream)| {
                let checks = http.health_checks.iter().enumerate();
                let (mut mandatory, mut persistent) = (0, true);
                for (index, check) in checks.filter(|(_, check)| check.upstream == id && check.mandatory) {
                    mandatory |= crate::watch::bit(index);
                    persistent &= check.persistent;
                }
                Group::new(upstream, before, mandatory, persistent && mandatory != 0)
            });
            groups.collect()
        });
        let caches = http.map_or(&[][..], |http| http.caches.as_slice());
        let caches = Caches::new(caches, before.map(|before| &before.caches));
        Ok(Arc::new(Self { model, zones, tls, groups, caches, logs }))
    }
}
