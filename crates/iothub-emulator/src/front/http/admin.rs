//! The hub's own switches: faults, counters, clock, reset. No real hub has them.

use std::time::Duration;

use iothub_common::Identity;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome};
use super::call::Call;
use crate::hub::{Disruption, Effect, HubError, LinkKind, Portion, Reception, Rule, TelemetryRefusal};

/// What can be asked for; one of `effect`, `disrupt` and `seed`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    effect: Option<String>,
    disrupt: Option<String>,
    seed: Option<u64>,
    device_id: Option<String>,
    module_id: Option<String>,
    link: Option<String>,
    delay_millis: Option<u64>,
    status: Option<u16>,
    port: Option<u16>,
    fraction: Option<f64>,
    every_nth: Option<u64>,
    times: Option<u64>,
    seconds: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Advance {
    advance_seconds: f64,
}

pub(super) async fn add_fault(call: Call) -> Outcome {
    let wanted: Wanted = call.body_as(malformed)?;
    let faults = call.hub.faults();
    match (&wanted.effect, &wanted.disrupt, wanted.seed) {
        (Some(_), None, None) => {
            faults.add(wanted.rule()?);
            Ok(Answer::no_content())
        }
        (None, Some(_), None) => {
            let identity = wanted.identity()?.ok_or_else(|| missing("deviceId"))?;
            let told = faults.disrupt(&identity, wanted.disruption()?);
            Ok(Answer::json(&json!({ "told": told })))
        }
        (None, None, Some(seed)) => {
            faults.seed(seed);
            Ok(Answer::no_content())
        }
        _ => Err(malformed("name one of effect, disrupt and seed".to_owned())),
    }
}

pub(super) async fn clear_faults(call: Call) -> Outcome {
    call.hub.faults().clear();
    Ok(Answer::no_content())
}

pub(super) async fn counters(call: Call) -> Outcome {
    // Numbers and names.
    Ok(Answer::json(&serde_json::to_value(call.hub.counters()).unwrap_or(Value::Null)))
}

pub(super) async fn advance(call: Call) -> Outcome {
    let advance: Advance = call.body_as(malformed)?;
    call.hub.advance(duration("advanceSeconds", advance.advance_seconds)?);
    Ok(Answer::no_content())
}

pub(super) async fn reset(call: Call) -> Outcome {
    call.hub.reset();
    Ok(Answer::no_content())
}

impl Wanted {
    fn identity(&self) -> Result<Option<Identity>, HubError> {
        let identity = match (&self.device_id, &self.module_id) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return Err(missing("deviceId")),
            (Some(device), None) => Identity::device(device),
            (Some(device), Some(module)) => Identity::module(device, module),
        };
        identity.map(Some).map_err(|error| malformed(error.to_string()))
    }

    fn rule(&self) -> Result<Rule, HubError> {
        let mut rule = Rule::new(self.effect()?);
        if let Some(identity) = self.identity()? {
            rule = rule.only_for(identity);
        }
        rule = match (self.fraction, self.every_nth) {
            (None, None) => rule,
            (Some(fraction), None) => rule.portion(fraction),
            (None, Some(nth)) => rule.portion(Portion::EveryNth(nth)),
            (Some(_), Some(_)) => {
                return Err(malformed("name one of fraction and everyNth, not both".to_owned()));
            }
        };
        if let Some(times) = self.times {
            rule = rule.times(times);
        }
        if let Some(seconds) = self.seconds {
            rule = rule.lasting(duration("seconds", seconds)?);
        }
        Ok(rule)
    }

    fn effect(&self) -> Result<Effect, HubError> {
        let delay = || self.delay_millis.map(Duration::from_millis).ok_or_else(|| missing("delayMillis"));
        let status = || self.status.ok_or_else(|| missing("status"));
        let port = || self.port.ok_or_else(|| missing("port"));
        let refuse = Effect::RefuseTelemetry;
        Ok(match self.effect.as_deref().unwrap_or_default() {
            "swallowTwinReplies" => Effect::SwallowTwinReplies,
            "delayTwinReplies" => Effect::DelayTwinReplies(delay()?),
            "delayNotifications" => Effect::DelayNotifications(delay()?),
            "reorderNotifications" => Effect::ReorderNotifications,
            "closeNewConnections" => Effect::RefuseConnections(Reception::Close),
            "silenceNewConnections" => Effect::RefuseConnections(Reception::Silence),
            "refuseTokens" => Effect::RefuseTokens(status()?),
            "swallowTokens" => Effect::SwallowTokens,
            "throttleTelemetry" => refuse(TelemetryRefusal::Throttled),
            "exceedTelemetryQuota" => refuse(TelemetryRefusal::Quota),
            "refuseTelemetry" => refuse(TelemetryRefusal::Unauthorized),
            "slowHttp" => Effect::SlowHttp(delay()?),
            "failHttp" => Effect::FailHttp(status()?),
            "throttleHttp" => Effect::ThrottleHttp(self.delay_millis.map(Duration::from_millis)),
            "redirectConnections" => Effect::Redirect { whole_connection: true, port: port()? },
            "redirectLinks" => Effect::Redirect { whole_connection: false, port: port()? },
            "omitNextIncomingId" => Effect::OmitNextIncomingId,
            "queryLag" => Effect::QueryLag(delay()?),
            other => return Err(malformed(format!("there is no effect '{other}'"))),
        })
    }

    fn disruption(&self) -> Result<Disruption, HubError> {
        let link = || {
            let name = self.link.as_deref().ok_or_else(|| missing("link"))?;
            let found = LinkKind::ALL.into_iter().find(|kind| kind.name() == name);
            found.ok_or_else(|| malformed(format!("there is no link '{name}'")))
        };
        Ok(match self.disrupt.as_deref().unwrap_or_default() {
            "dropConnection" => Disruption::DropConnection,
            "closeConnection" => Disruption::CloseConnection,
            "closeConnectionQuietly" => Disruption::CloseConnectionQuietly,
            "endSession" => Disruption::EndSession,
            "detachLink" => Disruption::DetachLink(link()?),
            "detachLinkQuietly" => Disruption::DetachLinkQuietly(link()?),
            "stopReading" => {
                let seconds = self.seconds.ok_or_else(|| missing("seconds"))?;
                Disruption::StopReading(duration("seconds", seconds)?)
            }
            other => return Err(malformed(format!("there is no disruption '{other}'"))),
        })
    }
}

fn duration(name: &str, seconds: f64) -> Result<Duration, HubError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| malformed(format!("{name} must be a number of seconds, not {seconds}")))
}

fn missing(name: &str) -> HubError {
    malformed(format!("{name} is missing"))
}

fn malformed(text: String) -> HubError {
    answer::argument_invalid(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wanted(json: Value) -> Wanted {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_rule_is_read_with_all_that_narrows_it() {
        let rule = wanted(json!({
            "effect": "delayTwinReplies", "delayMillis": 1500, "deviceId": "d", "moduleId": "m",
            "everyNth": 2, "times": 3, "seconds": 0.5,
        }));
        let expected = Rule::new(Effect::DelayTwinReplies(Duration::from_millis(1500)))
            .only_for(Identity::module("d", "m").unwrap())
            .portion(Portion::EveryNth(2))
            .times(3)
            .lasting(Duration::from_millis(500));
        assert_eq!(rule.rule().unwrap(), expected);
    }

    #[test]
    fn every_effect_and_disruption_can_be_asked_for() {
        for effect in [
            "swallowTwinReplies",
            "delayTwinReplies",
            "delayNotifications",
            "reorderNotifications",
            "closeNewConnections",
            "silenceNewConnections",
            "refuseTokens",
            "swallowTokens",
            "throttleTelemetry",
            "exceedTelemetryQuota",
            "refuseTelemetry",
            "slowHttp",
            "failHttp",
            "throttleHttp",
            "redirectConnections",
            "redirectLinks",
            "omitNextIncomingId",
            "queryLag",
        ] {
            let all = json!({ "effect": effect, "delayMillis": 1, "status": 503, "port": 5671 });
            assert!(wanted(all).rule().is_ok(), "{effect}");
        }
        for link in LinkKind::ALL {
            let asked = wanted(json!({ "disrupt": "detachLinkQuietly", "link": link.name() }));
            assert_eq!(asked.disruption().unwrap(), Disruption::DetachLinkQuietly(link));
        }
        let stop = wanted(json!({ "disrupt": "stopReading", "seconds": 2 }));
        assert_eq!(stop.disruption().unwrap(), Disruption::StopReading(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let rule = |json| wanted(json).rule().unwrap_err().text;
        assert_eq!(rule(json!({ "effect": "slowHttp" })), "delayMillis is missing");
        assert_eq!(rule(json!({ "effect": "tea" })), "there is no effect 'tea'");
        assert_eq!(
            rule(json!({ "effect": "swallowTokens", "seconds": -1 })),
            "seconds must be a number of seconds, not -1"
        );
        assert_eq!(rule(json!({ "effect": "swallowTokens", "moduleId": "m" })), "deviceId is missing");
        let error = serde_json::from_value::<Wanted>(json!({ "delay": 1 })).unwrap_err();
        assert!(error.to_string().contains("delay"), "{error}");
    }
}
