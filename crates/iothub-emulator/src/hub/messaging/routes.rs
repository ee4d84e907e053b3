//! Routes between the modules of a device, as its Edge hub would have them: the desired property `routes` of the
//! module `$edgeHub`, like `FROM /messages/modules/a/outputs/x INTO BrokeredEndpoint("/modules/b/inputs/y")`
//! (amqp.md 3.6).
//!
//! Conditions (`WHERE`) are not known here, such a route is passed over. Without a route that fits, a message goes to the
//! built-in endpoint as it would without an Edge hub.

use std::time::SystemTime;

use iothub_common::Identity;
use serde_json::Value;

use super::config::MessagingConfig;
use super::message::Message;
use crate::hub::Inner;
use crate::hub::error::HubError;

/// The application property that names a module's output (amqp.md 3.6).
const OUTPUT: &str = "iothub-outputname";
/// Routes of a device that are looked at.
const MAX_ROUTES: usize = 32;

/// From where to where.
#[derive(Debug, PartialEq, Eq)]
struct Route<'a> {
    /// The module, and its output or `*`; none of them: everything.
    module: Option<&'a str>,
    output: Option<&'a str>,
    sink: Sink<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Sink<'a> {
    /// `$upstream`: the built-in endpoint.
    Hub,
    Input {
        module: &'a str,
        input: &'a str,
    },
}

/// Puts a module's message where the routes say; false when it is for the built-in endpoint (too).
pub(super) fn deliver(
    inner: &mut Inner,
    from: &Identity,
    message: &Message,
    config: &MessagingConfig,
    now: SystemTime,
) -> Result<bool, HubError> {
    let Some(module_id) = from.module_id() else { return Ok(false) };
    let output = message.property(OUTPUT).unwrap_or_default();
    let routes = route_texts(inner, from.device_id());
    let fitting = routes.iter().filter_map(|text| parse(text)).filter(|route| route.fits(module_id, output));

    let (mut routed, mut upstream) = (false, false);
    for route in fitting {
        match route.sink {
            Sink::Hub => upstream = true,
            Sink::Input { module, input } => {
                let Ok(target) = Identity::module(from.device_id(), module) else { continue };
                if inner.state.record(&target).is_err() {
                    continue;
                }
                inner.push_input(&target, as_input(message, from, input), config, now)?;
                routed = true;
            }
        }
    }
    Ok(routed && !upstream)
}

/// What the receiving module gets: amqp.md 3.6.
fn as_input(message: &Message, from: &Identity, input: &str) -> Message {
    let mut copy = message.clone();
    copy.take_property(OUTPUT);
    copy.system.push(("x-opt-input-name".into(), input.to_owned()));
    copy.system.push(("iothub-connection-device-id".into(), from.device_id().to_owned()));
    if let Some(module_id) = from.module_id() {
        copy.system.push(("iothub-connection-module-id".into(), module_id.to_owned()));
    }
    copy
}

fn route_texts(inner: &Inner, device_id: &str) -> Vec<String> {
    let routes = || {
        let edge_hub = Identity::module(device_id, "$edgeHub").ok()?;
        let document = inner.state.twin(&edge_hub).ok()?.device_document();
        let routes = document.get("desired")?.get("routes")?.as_object()?;
        // Newer schemas have an object with the text in it.
        let text = |route: &Value| route.get("route").unwrap_or(route).as_str().map(str::to_owned);
        Some(routes.values().filter_map(text).take(MAX_ROUTES).collect())
    };
    routes().unwrap_or_default()
}

impl Route<'_> {
    fn fits(&self, module: &str, output: &str) -> bool {
        self.module.is_none_or(|of| of == module) && self.output.is_none_or(|of| of == output)
    }
}

fn parse(text: &str) -> Option<Route<'_>> {
    let text = text.trim();
    let rest = strip_word(text, "FROM")?;
    let (source, rest) = rest.split_once(char::is_whitespace)?;
    let sink = strip_word(rest.trim_start(), "INTO")?;
    let (module, output) = parse_source(source)?;
    Some(Route { module, output, sink: parse_sink(sink.trim())? })
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = text.split_once(char::is_whitespace)?;
    first.eq_ignore_ascii_case(word).then(|| rest.trim_start())
}

/// `/messages/*`, `/messages/modules/*`, `/messages/modules/{m}/*`, `/messages/modules/{m}/outputs/{o}` or `*`.
fn parse_source(source: &str) -> Option<(Option<&str>, Option<&str>)> {
    let segments: Vec<_> = source.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments[..] {
        ["messages"] | ["messages", "*"] | ["messages", "modules"] | ["messages", "modules", "*"] => {
            Some((None, None))
        }
        ["messages", "modules", module]
        | ["messages", "modules", module, "*" | "outputs"]
        | ["messages", "modules", module, "outputs", "*"] => Some((Some(module), None)),
        ["messages", "modules", module, "outputs", output] => Some((Some(module), Some(output))),
        _ => None,
    }
}

fn parse_sink(sink: &str) -> Option<Sink<'_>> {
    if sink.eq_ignore_ascii_case("$upstream") {
        return Some(Sink::Hub);
    }
    let (name, rest) = sink.split_once('(')?;
    if !name.trim().eq_ignore_ascii_case("BrokeredEndpoint") {
        return None;
    }
    let path = rest.strip_suffix(')')?.trim().trim_matches(['"', '\'']);
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments[..] {
        ["modules", module, "inputs", input] => Some(Sink::Input { module, input }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        let input = Sink::Input { module: "b", input: "y" };
        let into_b = r#"INTO BrokeredEndpoint("/modules/b/inputs/y")"#;
        for (from, module, output) in [
            ("FROM /messages/modules/a/outputs/x", Some("a"), Some("x")),
            ("from /messages/modules/a/outputs/*", Some("a"), None),
            ("FROM /messages/modules/a/*", Some("a"), None),
            ("FROM  /messages/*", None, None),
        ] {
            let text = format!("{from}   {into_b}");
            let route = parse(&text);
            let expected = Route { module, output, sink: Sink::Input { module: "b", input: "y" } };
            assert_eq!(route, Some(expected), "{text}");
        }
        let single = parse("FROM /messages/* INTO BrokeredEndpoint( '/modules/b/inputs/y' )");
        assert_eq!(single.map(|route| route.sink), Some(input));
        assert_eq!(parse("FROM /messages/* INTO $upstream").map(|route| route.sink), Some(Sink::Hub));
    }

    #[test]
    fn what_is_not_known_is_no_route() {
        for text in [
            "",
            "FROM /messages/*",
            "SELECT * INTO $upstream",
            "FROM /twinChangeNotifications INTO $upstream",
            "FROM /messages/* WHERE a = 1 INTO $upstream",
            "FROM /messages/* INTO BrokeredEndpoint(\"/modules/b\")",
            "FROM /messages/* INTO Elsewhere(\"/modules/b/inputs/y\")",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
