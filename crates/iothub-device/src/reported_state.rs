//! Reporting only what changed.

use std::marker::PhantomData;

use iothub_common::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::twin::Twin;

/// Keeps what was reported last, and reports of a new state only what is different: new and changed members,
/// and `null` for those that are gone.
///
/// ```no_run
/// # async fn run(client: iothub_device::ModuleClient) -> iothub_device::Result<()> {
/// use iothub_device::ReportedState;
///
/// #[derive(serde::Serialize)]
/// struct State { temperature: f64, mode: &'static str }
///
/// let mut reported = ReportedState::new(client.twin());
/// reported.report(&State { temperature: 20.5, mode: "heating" }).await?; // both members
/// reported.report(&State { temperature: 21.0, mode: "heating" }).await?; // the temperature
/// # Ok(())
/// # }
/// ```
///
/// Members whose value is `None` are removed from the twin. Members that somebody else reported stay as they are.
#[derive(Debug)]
pub struct ReportedState<T> {
    twin: Twin,
    /// What the hub has of our members; unknown after a report of which it is not known whether it was applied.
    last: Option<Value>,
    state: PhantomData<fn(&T)>,
}

impl<T: Serialize> ReportedState<T> {
    /// Begins with nothing reported: the first report sends the whole state.
    #[must_use]
    pub fn new(twin: Twin) -> Self {
        Self { twin, last: Some(Value::Object(Map::new())), state: PhantomData }
    }

    /// Reports what is different from the last report; nothing is sent when nothing is. Returns the new `$version`
    /// of the reported properties, `None` when nothing was sent.
    ///
    /// When an earlier report may or may not have been applied, the twin is read first.
    ///
    /// # Errors
    ///
    /// As [`Twin::report`]; [`ErrorKind::InvalidInput`] when `state` is not a JSON object.
    pub async fn report(&mut self, state: &T) -> Result<Option<u64>> {
        let not_json = |e| Error::new(ErrorKind::InvalidInput, "the state is no JSON").with_source(e);
        let mut next = serde_json::to_value(state).map_err(not_json)?;
        if !next.is_object() {
            return Err(Error::new(ErrorKind::InvalidInput, "the state must be a JSON object"));
        }
        remove_nulls(&mut next);
        let last = match self.last.take() {
            Some(last) => last,
            None => self.read_back(&next).await?,
        };
        let Some(patch) = difference(&last, &next) else {
            self.last = Some(next);
            return Ok(None);
        };
        // Until it is confirmed, also when this future is dropped, the hub's state is unknown.
        match self.twin.report(&patch).await {
            Ok(version) => {
                self.last = Some(next);
                Ok(Some(version))
            }
            Err(error) => {
                if !error.may_have_been_applied() {
                    self.last = Some(last);
                }
                Err(error)
            }
        }
    }

    /// What the hub has of the members of `next`. Members of an older state that `next` has no more are not seen.
    async fn read_back(&self, next: &Value) -> Result<Value> {
        let mut reported: Value = self.twin.get().await?.reported.to()?;
        if let (Value::Object(reported), Value::Object(next)) = (&mut reported, next) {
            reported.retain(|name, _| next.contains_key(name));
        }
        Ok(reported)
    }
}

/// The merge patch from `old` to `new`; `None` when they are equal.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        let change = match old.get(name) {
            // A merge keeps what an object has already, so an object in place of anything else goes whole.
            Some(before) if before.is_object() == value.is_object() => difference(before, value),
            _ => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// In a twin a member that is null is one that is not there.
fn remove_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(remove_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_hold_what_changed_and_nothing_else() {
        let cases = [
            (json!({}), json!({ "a": 1 }), Some(json!({ "a": 1 }))),
            (json!({ "a": 1 }), json!({ "a": 1 }), None),
            (json!({ "a": 1, "b": 2 }), json!({ "a": 1 }), Some(json!({ "b": null }))),
            (
                json!({ "o": { "x": 1, "y": 2 } }),
                json!({ "o": { "x": 1, "y": 3 } }),
                Some(json!({ "o": { "y": 3 } })),
            ),
            (json!({ "o": { "x": 1 } }), json!({ "o": 5 }), Some(json!({ "o": 5 }))),
            (json!({ "o": 5 }), json!({ "o": { "x": 1 } }), Some(json!({ "o": { "x": 1 } }))),
            (json!({ "l": [1, 2] }), json!({ "l": [1] }), Some(json!({ "l": [1] }))),
            (json!({ "o": { "x": 1 } }), json!({ "o": {} }), Some(json!({ "o": { "x": null } }))),
        ];
        for (old, new, patch) in cases {
            assert_eq!(difference(&old, &new), patch, "{old} to {new}");
        }
    }

    #[test]
    fn nulls_are_members_that_are_not_there() {
        let mut value = json!({ "a": null, "o": { "b": null, "c": 1 }, "l": [null] });
        remove_nulls(&mut value);
        assert_eq!(value, json!({ "o": { "c": 1 }, "l": [null] }));
    }
}
