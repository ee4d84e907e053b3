//! The document of a digital twin, made of desired and reported properties.

use serde_json::{Map, Value};

/// `desired` and `reported` come as services see them, with `$metadata` and `$version`.
pub(super) fn build(device_id: &str, model_id: &str, desired: &Value, reported: &Value) -> Value {
    let mut root = Map::new();
    root.insert("$dtId".to_owned(), device_id.into());
    let mut metadata = Map::new();
    metadata.insert("$model".to_owned(), model_id.into());
    let sides = Sides {
        desired: desired.as_object(),
        desired_metadata: desired["$metadata"].as_object(),
        reported: reported.as_object(),
        reported_metadata: reported["$metadata"].as_object(),
    };
    sides.add(&mut root, metadata);
    root.into()
}

/// The same object in both sections, where it is there.
#[derive(Clone, Copy)]
struct Sides<'a> {
    desired: Option<&'a Map<String, Value>>,
    desired_metadata: Option<&'a Map<String, Value>>,
    reported: Option<&'a Map<String, Value>>,
    reported_metadata: Option<&'a Map<String, Value>>,
}

impl<'a> Sides<'a> {
    /// Adds all properties and components, then `$metadata`.
    fn add(&self, into: &mut Map<String, Value>, mut metadata: Map<String, Value>) {
        for name in self.names() {
            if self.is_component(name) {
                let mut component = Map::new();
                self.below(name).add(&mut component, Map::new());
                into.insert(name.clone(), component.into());
                continue;
            }
            // What a device has not reported yet has a desired value only.
            if let Some(value) = get(self.reported, name) {
                into.insert(name.clone(), acknowledged(value).map_or(value, |ack| ack.value).clone());
            }
            metadata.insert(name.clone(), self.property_metadata(name).into());
        }
        into.insert("$metadata".to_owned(), metadata.into());
    }

    fn property_metadata(&self, name: &str) -> Map<String, Value> {
        let mut metadata = Map::new();
        let mut put = |name: &str, value: Option<&Value>| {
            metadata.extend(value.map(|value| (name.to_owned(), value.clone())));
        };
        let stamp = |side, member| get(side, name).and_then(|stamps: &Value| stamps.get(member));
        if let Some(desired) = get(self.desired, name) {
            put("desiredValue", Some(desired));
            put("desiredVersion", stamp(self.desired_metadata, "$lastUpdatedVersion"));
        }
        let reported = get(self.reported, name);
        if let Some(ack) = reported.and_then(acknowledged) {
            put("ackVersion", ack.members.get("av"));
            put("ackCode", ack.members.get("ac"));
            put("ackDescription", ack.members.get("ad"));
        }
        let side = if reported.is_some() { self.reported_metadata } else { self.desired_metadata };
        put("lastUpdateTime", stamp(side, "$lastUpdated"));
        metadata
    }

    fn is_component(&self, name: &str) -> bool {
        [self.desired, self.reported].into_iter().any(|side| get(side, name).is_some_and(is_component))
    }

    fn below(&self, name: &str) -> Self {
        let below = |side| get(side, name).and_then(Value::as_object);
        Self {
            desired: below(self.desired),
            desired_metadata: below(self.desired_metadata),
            reported: below(self.reported),
            reported_metadata: below(self.reported_metadata),
        }
    }

    /// Reported ones first, without what is not the model's.
    fn names(&self) -> impl Iterator<Item = &'a String> {
        let (desired, reported) = (self.desired, self.reported);
        let is_new = move |name: &&String| reported.is_none_or(|reported| !reported.contains_key(*name));
        let reported = reported.into_iter().flat_map(Map::keys);
        let names = reported.chain(desired.into_iter().flat_map(Map::keys).filter(is_new));
        names.filter(|name| !name.starts_with('$') && *name != super::patch::COMPONENT_MARK)
    }
}

struct Acknowledgement<'a> {
    value: &'a Value,
    members: &'a Map<String, Value>,
}

fn acknowledged(reported: &Value) -> Option<Acknowledgement<'_>> {
    let members = reported.as_object()?;
    let value = members.get("value")?;
    (members.contains_key("ac") && members.contains_key("av")).then_some(Acknowledgement { value, members })
}

pub(super) fn is_component(value: &Value) -> bool {
    value.get(super::patch::COMPONENT_MARK).is_some_and(|mark| mark == "c")
}

fn get<'a>(side: Option<&'a Map<String, Value>>, name: &str) -> Option<&'a Value> {
    side?.get(name)
}
