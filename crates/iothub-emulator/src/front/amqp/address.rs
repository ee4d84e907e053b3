//! Link addresses: what a link is for (amqp.md 3.1, 5.1).

use iothub_common::Identity;
use iothub_common::identity::unescape_id;

/// What the address of a link names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `$cbs`: tokens.
    Cbs,
    /// Something of a device or module.
    Identity(Identity, Endpoint),
    /// Something of the service side.
    Service(ServiceEndpoint),
}

/// What a device or module has links for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    /// `messages/events`: telemetry and module outputs, towards a module its inputs.
    Events,
    /// `messages/devicebound`: cloud-to-device messages.
    DeviceBound,
    /// `methods/devicebound`: direct methods, both directions.
    Methods,
    /// `twin`: both directions.
    Twin,
}

/// What a service has links for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServiceEndpoint {
    /// `messages/devicebound`: sends cloud-to-device messages.
    DeviceBound,
    /// `messages/servicebound/feedback`.
    Feedback,
    /// `messages/servicebound/filenotifications`.
    FileNotifications,
    /// `messages/events/…`: the built-in endpoint, which is at another address with this after its name.
    Redirected(String),
    /// `$management` of the built-in endpoint.
    Management,
    /// `{entity}/ConsumerGroups/{group}/Partitions/{partition}` of the built-in endpoint.
    Partition {
        /// The endpoint's name.
        entity: String,
        group: String,
        partition: String,
    },
}

/// Reads an address: a path, or a URI with host and port, which nobody looks at. Fixed segments may have any
/// case. Each segment is percent-decoded once, a `+` stays (amqp.md 3.1). `None` when it names nothing.
pub(super) fn parse(address: &str) -> Option<Address> {
    let path = path_of(address);
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments = path.split('/').map(|segment| unescape_id(segment).ok()).collect::<Option<Vec<_>>>()?;
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        [cbs] if is(cbs, "$cbs") => Some(Address::Cbs),
        [devices, device, modules, module, rest @ ..]
            if is(devices, "devices") && is(modules, "modules") && !rest.is_empty() =>
        {
            let identity = Identity::module(*device, *module).ok()?;
            Some(Address::Identity(identity, endpoint(rest)?))
        }
        [devices, device, rest @ ..] if is(devices, "devices") => {
            let identity = Identity::device(*device).ok()?;
            Some(Address::Identity(identity, endpoint(rest)?))
        }
        [messages, rest @ ..] if is(messages, "messages") => Some(Address::Service(service_endpoint(rest)?)),
        [management] | [_, management] if is(management, "$management") => {
            Some(Address::Service(ServiceEndpoint::Management))
        }
        [entity, groups, group, partitions, partition]
            if is(groups, "ConsumerGroups") && is(partitions, "Partitions") =>
        {
            let [entity, group, partition] = [*entity, *group, *partition].map(str::to_owned);
            Some(Address::Service(ServiceEndpoint::Partition { entity, group, partition }))
        }
        _ => None,
    }
}

fn path_of(address: &str) -> &str {
    let Some((scheme, rest)) = address.split_once("://") else { return address };
    if !["amqps", "amqp", "sb"].iter().any(|known| is(scheme, known)) {
        return address;
    }
    rest.split_once('/').map_or("", |(_, path)| path)
}

fn endpoint(segments: &[&str]) -> Option<Endpoint> {
    match segments {
        [twin] if is(twin, "twin") => Some(Endpoint::Twin),
        [messages, events] if is(messages, "messages") && is(events, "events") => Some(Endpoint::Events),
        [messages, bound] if is(messages, "messages") && is(bound, "devicebound") => {
            Some(Endpoint::DeviceBound)
        }
        [methods, bound] if is(methods, "methods") && is(bound, "devicebound") => Some(Endpoint::Methods),
        _ => None,
    }
}

fn service_endpoint(segments: &[&str]) -> Option<ServiceEndpoint> {
    match segments {
        [bound] if is(bound, "devicebound") => Some(ServiceEndpoint::DeviceBound),
        [bound, what] if is(bound, "servicebound") && is(what, "feedback") => Some(ServiceEndpoint::Feedback),
        [bound, what] if is(bound, "servicebound") && is(what, "filenotifications") => {
            Some(ServiceEndpoint::FileNotifications)
        }
        [events, rest @ ..] if is(events, "events") => Some(ServiceEndpoint::Redirected(rest.join("/"))),
        _ => None,
    }
}

fn is(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn device(id: &str, endpoint: Endpoint) -> Option<Address> {
        Some(Address::Identity(Identity::device(id).unwrap(), endpoint))
    }

    fn module(device: &str, module: &str, endpoint: Endpoint) -> Option<Address> {
        Some(Address::Identity(Identity::module(device, module).unwrap(), endpoint))
    }

    #[test]
    fn addresses_of_every_client_are_understood() {
        use Endpoint::{DeviceBound, Events, Methods, Twin};
        for (address, expected) in [
            ("$cbs", Some(Address::Cbs)),
            ("/$CBS", Some(Address::Cbs)),
            ("amqps://hub.example.net:5671/$cbs", Some(Address::Cbs)),
            // Node, Java
            ("/devices/d/messages/events", device("d", Events)),
            ("/devices/d/messages/devicebound", device("d", DeviceBound)),
            ("/devices/d/methods/devicebound", device("d", Methods)),
            ("/devices/d/twin", device("d", Twin)),
            ("devices/d/twin/", device("d", Twin)),
            ("/devices/d/modules/m/messages/events", module("d", "m", Events)),
            ("/devices/d/modules/m/messages/devicebound", module("d", "m", DeviceBound)),
            ("/devices/d/modules/m/methods/devicebound", module("d", "m", Methods)),
            ("/devices/d/modules/m/twin", module("d", "m", Twin)),
            // C#: a port and another case. C: no port.
            ("amqps://hub.example.net:5671/devices/d/messages/deviceBound", device("d", DeviceBound)),
            ("amqps://hub.example.net/devices/d/modules/m/twin", module("d", "m", Twin)),
            ("AMQPS://HUB/Devices/D/Modules/M/Messages/Events", module("D", "M", Events)),
            // Ids, plain and escaped. A plus is a plus.
            ("/devices/dev@1/twin", device("dev@1", Twin)),
            ("/devices/dev%401/twin", device("dev@1", Twin)),
            ("/devices/dev+1/twin", device("dev+1", Twin)),
            ("/devices/dev%2B1/twin", device("dev+1", Twin)),
            ("/devices/dev%252b/twin", device("dev%2b", Twin)),
            ("/devices/a?b#c/twin", device("a?b#c", Twin)),
            ("/devices/d/modules/$edgeHub/twin", module("d", "$edgeHub", Twin)),
            ("/devices/d/modules/%24edgeHub/twin", module("d", "$edgeHub", Twin)),
            // Ids that look like something else.
            ("/devices/modules/twin", device("modules", Twin)),
            ("/devices/modules/modules/modules/twin", module("modules", "modules", Twin)),
            ("/devices/twin/modules/twin/twin", module("twin", "twin", Twin)),
        ] {
            assert_eq!(parse(address), expected, "{address}");
        }
    }

    #[test]
    fn service_addresses_are_known() {
        use ServiceEndpoint::{DeviceBound, Feedback, FileNotifications, Management, Redirected};
        let partition = |group: &str| ServiceEndpoint::Partition {
            entity: "hub".to_owned(),
            group: group.to_owned(),
            partition: "0".to_owned(),
        };
        for (address, expected) in [
            ("/messages/devicebound", DeviceBound),
            ("amqps://hub.example.net:5671/messages/deviceBound", DeviceBound),
            ("/messages/serviceBound/feedback", Feedback),
            ("/messages/servicebound/feedback", Feedback),
            ("/messages/serviceBound/filenotifications", FileNotifications),
            ("/messages/events", Redirected(String::new())),
            ("amqps://hub.example.net/messages/events/$management", Redirected("$management".to_owned())),
            (
                "/messages/events/ConsumerGroups/$Default/Partitions/0",
                Redirected("ConsumerGroups/$Default/Partitions/0".to_owned()),
            ),
            ("$management", Management),
            ("sb://hub.example.net/hub/$management", Management),
            ("hub/ConsumerGroups/$Default/Partitions/0", partition("$Default")),
            ("amqps://hub.example.net:5671/hub/consumergroups/a%20b/partitions/0", partition("a b")),
        ] {
            assert_eq!(parse(address), Some(Address::Service(expected)), "{address}");
        }
    }

    #[test]
    fn everything_else_is_nothing() {
        for address in [
            "",
            "/",
            "cbs",
            "$cbs/x",
            "https://hub.example.net/devices/d/twin",
            "amqps://hub.example.net",
            "/devices",
            "/devices/d",
            "/devices//twin",
            "/devices/d/modules/m",
            "/devices/d/modules//twin",
            "/devices/d/modules/twin",
            "/devices/d/twins",
            "/devices/d/twin/x",
            "/devices/d/messages",
            "/devices/d/messages/events/x",
            "/devices/d//twin",
            "/devices/a%2Fb/twin",
            "/devices/%ff/twin",
            "/devices/a b/twin",
            "/twins/d",
            "/messages",
            "/messages/servicebound",
        ] {
            assert_eq!(parse(address), None, "{address}");
        }
    }
}
