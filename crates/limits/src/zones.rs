//! The zones of a configuration, and what of them outlives it.

use std::sync::Arc;

use config::model::http;

use crate::connections::ConnectionLimits;
use crate::rate::RateLimits;
use crate::{connections, rate};

/// `limit_req_zone` and `limit_conn_zone`: states that all event loops share. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Zones {
    zones: Arc<[Zone]>,
}

#[derive(Debug, Clone)]
struct Zone {
    model: http::Zone,
    states: States,
}

#[derive(Debug, Clone)]
enum States {
    Rate(Arc<rate::States>),
    Connections(Arc<connections::States>),
}

/// A limit that names a zone that there is not, or one of the other kind. The configuration was checked, so this
/// is a defect of whoever made the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("zone {zone} of a limit is none of its kind")]
pub struct WrongZone {
    /// The index that the limit names.
    pub zone: u32,
}

impl Zones {
    /// The zones of a configuration. A zone that `before` holds under the same name, with the same key, size and
    /// kind, keeps its states, so that a reload forgives nobody; its rate may be another one.
    pub fn new(zones: &[http::Zone], before: Option<&Self>) -> Self {
        let zones = zones.iter().map(|model| Zone { states: states(model, before), model: model.clone() });
        Self { zones: zones.collect() }
    }

    /// Compiles the `limit_req`s of one place.
    pub fn rate_limits(
        &self,
        limits: &[http::LimitReq],
        refusal: http::Refusal,
    ) -> Result<RateLimits, WrongZone> {
        let limits = limits.iter().map(|limit| {
            let wrong = WrongZone { zone: limit.zone };
            match self.zones.get(limit.zone as usize) {
                Some(Zone { model, states: States::Rate(states) }) => {
                    let rate = model.rate.ok_or(wrong)?;
                    Ok(rate::Limit::new(&model.name, rate, Arc::clone(states), limit))
                }
                _ => Err(wrong),
            }
        });
        Ok(RateLimits::new(limits.collect::<Result<_, _>>()?, refusal))
    }

    /// Compiles the `limit_conn`s of one place.
    pub fn connection_limits(
        &self,
        limits: &[http::LimitConn],
        refusal: http::Refusal,
    ) -> Result<ConnectionLimits, WrongZone> {
        let limits = limits.iter().map(|limit| match self.zones.get(limit.zone as usize) {
            Some(Zone { model, states: States::Connections(states) }) => {
                Ok(connections::Limit::new(&model.name, Arc::clone(states), limit.limit))
            }
            _ => Err(WrongZone { zone: limit.zone }),
        });
        Ok(ConnectionLimits::new(limits.collect::<Result<_, _>>()?, refusal))
    }
}

fn states(model: &http::Zone, before: Option<&Zones>) -> States {
    let kept = before.and_then(|before| {
        before.zones.iter().find(|zone| {
            zone.model.name == model.name
                && zone.model.size == model.size
                && zone.model.key == model.key
                && zone.model.rate.is_some() == model.rate.is_some()
        })
    });
    match kept {
        Some(zone) => zone.states.clone(),
        None if model.rate.is_some() => States::Rate(Arc::new(rate::States::new(model.size))),
        None => States::Connections(Arc::new(connections::States::new(model.size))),
    }
}

#[cfg(test)]
mod tests {
    use config::model::http::{LimitConn, LimitReq, LogLevel, Refusal};

    use super::*;
    use crate::rate::Decision;

    const REFUSAL: Refusal = Refusal { status: 503, level: LogLevel::Error, dry_run: false };
    const LIMIT: LimitReq = LimitReq { zone: 0, burst: 0, delay: 0 };

    fn zone(name: &str, size: u64, rate: Option<u64>) -> http::Zone {
        http::Zone { name: name.to_owned(), key: http::Value::default(), size, rate }
    }

    fn asks(zones: &Zones) -> Decision {
        zones.rate_limits(&[LIMIT], REFUSAL).unwrap().check(&[b"key"], 1000).decision
    }

    #[test]
    fn a_reload_keeps_the_states_of_a_zone_that_is_the_same() {
        let first = Zones::new(&[zone("one", 32768, Some(1000))], None);
        assert_eq!(asks(&first), Decision::Passed);
        let faster = Zones::new(&[zone("one", 32768, Some(2000))], Some(&first));
        assert_eq!(asks(&faster), Decision::Rejected);
        let larger = Zones::new(&[zone("one", 65536, Some(1000))], Some(&first));
        assert_eq!(asks(&larger), Decision::Passed);
        let other = Zones::new(&[zone("two", 32768, Some(1000))], Some(&first));
        assert_eq!(asks(&other), Decision::Passed);
    }

    #[test]
    fn a_limit_that_names_no_zone_of_its_kind_is_an_error() {
        let zones = Zones::new(&[zone("c", 32768, None), zone("r", 32768, Some(1000))], None);
        assert_eq!(zones.rate_limits(&[LIMIT], REFUSAL).unwrap_err(), WrongZone { zone: 0 });
        for zone in [1, 2] {
            let limits = [LimitConn { zone, limit: 1 }];
            assert_eq!(zones.connection_limits(&limits, REFUSAL).unwrap_err(), WrongZone { zone });
        }
    }
}
