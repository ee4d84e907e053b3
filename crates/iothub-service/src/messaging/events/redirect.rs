//! From the hub to its built-in endpoint: what its redirect says (amqp.md 5.6).

use iothub_amqp::serde_amqp::Value;
use iothub_amqp::types::definitions::{Error as AmqpError, Fields};
use iothub_common::{Error, ErrorKind, Result};

/// The condition of a redirect.
const REDIRECT: &str = "amqp:link:redirect";
const AMQPS_PORT: u16 = 5671;

/// Where the events of a hub are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuiltInEndpoint {
    pub(super) host: String,
    pub(super) port: u16,
    /// The name of the event hub.
    pub(super) entity: String,
}

impl BuiltInEndpoint {
    /// Reads the error a link was detached with; `None` when it is another one.
    pub(super) fn from_redirect(error: &AmqpError) -> Option<Result<Self>> {
        if iothub_amqp::condition(error) != REDIRECT {
            return None;
        }
        let read = error.info.as_deref().and_then(Self::from_info);
        Some(read.ok_or_else(|| {
            let message = "the hub redirected to its built-in endpoint without saying where that is";
            Error::new(ErrorKind::Protocol, message)
        }))
    }

    fn from_info(info: &Fields) -> Option<Self> {
        let address = text(info, "address")?;
        let (host_of_address, path) = split_address(address)?;
        let host = text(info, "hostname").or_else(|| text(info, "network-host")).unwrap_or(host_of_address);
        let entity = entity(path)?;
        let port = info.get("port").and_then(port).unwrap_or(AMQPS_PORT);
        Some(Self { host: host.to_owned(), port, entity: entity.to_owned() })
    }

    /// What tokens for this endpoint are for: everything below the event hub. Event Hubs clients in Python show one
    /// token for it, those in JavaScript one for each part (amqp.md 5.7).
    pub(super) fn resource(&self) -> String {
        format!("sb://{}/{}", self.host, self.entity)
    }
}

/// `amqps://{host}[:{port}]/{path}` or `/{path}`: host without port, and path.
fn split_address(address: &str) -> Option<(&str, &str)> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/')?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    Some((host, path))
}

/// The event hub is what stands before the part of it that was asked for.
fn entity(path: &str) -> Option<&str> {
    let lower = path.to_ascii_lowercase();
    let end = ["/$management", "/consumergroups/"].iter().filter_map(|part| lower.find(part)).min();
    let entity = path[..end.unwrap_or(path.len())].trim_matches('/');
    (!entity.is_empty()).then_some(entity)
}

fn text<'a>(info: &'a Fields, key: &str) -> Option<&'a str> {
    match info.get(key)? {
        Value::String(text) => Some(text.as_str()),
        Value::Symbol(symbol) => Some(symbol.as_str()),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

/// An int or ushort in the hub's answers (amqp.md 5.6); any width is taken.
fn port(value: &Value) -> Option<u16> {
    match value {
        Value::Ushort(port) => Some(*port),
        Value::Uint(port) => u16::try_from(*port).ok(),
        Value::Ulong(port) => u16::try_from(*port).ok(),
        Value::Short(port) => u16::try_from(*port).ok(),
        Value::Int(port) => u16::try_from(*port).ok(),
        Value::Long(port) => u16::try_from(*port).ok(),
        _ => None,
    }
    .filter(|port| *port > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use iothub_amqp::message::fields;
    use iothub_amqp::serde_amqp::primitives::Symbol;

    use super::*;

    fn redirect(info: Vec<(&'static str, Value)>) -> AmqpError {
        AmqpError { info: Some(Box::new(fields(info))), ..iothub_amqp::amqp_error(REDIRECT, "moved") }
    }

    fn string(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn the_redirect_of_the_hub_is_read() {
        for (address, port, expected_port) in [
            ("amqps://ns.example.net:5671/iothub-ehub-x-1-abc/$management", Value::Int(5671), 5671),
            ("amqps://ns.example.net:7000/iothub-ehub-x-1-abc/$management", Value::Ushort(7000), 7000),
            ("amqps://ns.example.net/iothub-ehub-x-1-abc/ConsumerGroups/g/Partitions/0", Value::Null, 5671),
            ("amqps://ns.example.net:5671/iothub-ehub-x-1-abc/", Value::Null, 5671),
        ] {
            let error = redirect(vec![
                ("hostname", string("ns.example.net")),
                ("network-host", string("other.example.net")),
                ("port", port),
                ("address", string(address)),
            ]);
            let endpoint = BuiltInEndpoint::from_redirect(&error).unwrap().unwrap();
            let expected = BuiltInEndpoint {
                host: "ns.example.net".into(),
                port: expected_port,
                entity: "iothub-ehub-x-1-abc".into(),
            };
            assert_eq!(endpoint, expected, "{address}");
            assert_eq!(endpoint.resource(), "sb://ns.example.net/iothub-ehub-x-1-abc");
        }
    }

    #[test]
    fn the_address_alone_is_enough() {
        let address = Value::Symbol(Symbol::from("amqps://ns.example.net:5671/hub/$management"));
        let endpoint =
            BuiltInEndpoint::from_redirect(&redirect(vec![("address", address)])).unwrap().unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.entity.as_str()), ("ns.example.net", "hub"));
    }

    #[test]
    fn a_redirect_to_nowhere_is_an_error_and_other_errors_are_no_redirect() {
        for info in [vec![], vec![("address", string("nonsense"))], vec![("address", string("amqps://h/"))]] {
            let error = BuiltInEndpoint::from_redirect(&redirect(info)).unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
        }
        let other = iothub_amqp::amqp_error("amqp:not-found", "no");
        assert!(BuiltInEndpoint::from_redirect(&other).is_none());
    }
}
