//! JSON patches of digital twins, as merge patches of desired properties.

use serde_json::{Map, Value, json};

use crate::hub::error::{ErrorCode, HubError};

/// Says `c` in the objects of a twin that are components.
pub(super) const COMPONENT_MARK: &str = "__t";

/// What a JSON patch does to the desired properties, which are `desired` before.
pub(super) fn to_merge_patch(
    body: &Value,
    mut desired: Map<String, Value>,
) -> Result<Map<String, Value>, HubError> {
    let steps = body.as_array().ok_or_else(|| refused("the body must be a JSON patch, an array"))?;
    let mut patch = Map::new();
    for step in steps {
        let (path, value) = read(step)?;
        let value = value.map(|value| marked(&path, value)).transpose()?;
        put(&mut patch, &mut desired, &path, value);
    }
    Ok(patch)
}

/// The path of a step, one or two names, and the new value; none removes.
fn read(step: &Value) -> Result<(Vec<String>, Option<Value>), HubError> {
    let text = |name: &str| step.get(name).and_then(Value::as_str);
    let path = text("path").ok_or_else(|| refused("a step needs a path"))?;
    let names: Vec<_> = path.split('/').skip(1).map(unescape).collect();
    if !path.starts_with('/') || names.is_empty() || names.len() > 2 || names.iter().any(String::is_empty) {
        return Err(refused(format!(
            "the path '{path}' must be /property, /component or /component/property"
        )));
    }
    if names.iter().any(|name| name.starts_with('$')) {
        return Err(refused(format!("'{path}' cannot be changed")));
    }
    match text("op") {
        Some("add" | "replace") => match step.get("value") {
            Some(value) if !value.is_null() => Ok((names, Some(value.clone()))),
            _ => Err(refused(format!("the step at '{path}' needs a value, use remove to take one away"))),
        },
        Some("remove") => Ok((names, None)),
        op => Err(refused(format!(
            "the operation '{}' is none of add, replace, remove",
            op.unwrap_or_default()
        ))),
    }
}

/// A component comes with a `$metadata` object, and is marked as one in the twin.
fn marked(path: &[String], value: Value) -> Result<Value, HubError> {
    let Value::Object(mut members) = value else { return Ok(value) };
    if members.shift_remove("$metadata").is_none() {
        return Ok(members.into());
    }
    if path.len() > 1 {
        return Err(refused("a component cannot be inside another"));
    }
    members.insert(COMPONENT_MARK.to_owned(), "c".into());
    Ok(members.into())
}

/// Adds one step to the merge patch, and does it to `desired` for the steps that follow.
fn put(
    patch: &mut Map<String, Value>,
    desired: &mut Map<String, Value>,
    path: &[String],
    value: Option<Value>,
) {
    let [name, rest @ ..] = path else { return };
    let Some(last) = rest.first() else {
        let change = replacement(desired.get(name), value.as_ref());
        // A step that comes later replaces what an earlier one did with the same property.
        patch.insert(name.clone(), change);
        set(desired, name, value);
        return;
    };
    if value.is_none() && !desired.get(name).is_some_and(Value::is_object) {
        return;
    }
    let component = object_at(desired, name);
    component.insert(COMPONENT_MARK.to_owned(), "c".into());
    let change = replacement(component.get(last), value.as_ref());
    set(component, last, value);
    let changes = object_at(patch, name);
    changes.insert(COMPONENT_MARK.to_owned(), "c".into());
    changes.insert(last.clone(), change);
}

/// The merge patch that makes one value of another: members that are gone are null in it.
fn replacement(old: Option<&Value>, new: Option<&Value>) -> Value {
    let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) else {
        return new.cloned().unwrap_or_default();
    };
    let kept = new.iter().map(|(name, value)| (name.clone(), replacement(old.get(name), Some(value))));
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), json!(null)));
    Value::Object(kept.chain(gone).collect())
}

fn set(members: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) => {
            members.insert(name.to_owned(), value);
        }
        None => {
            members.shift_remove(name);
        }
    }
}

/// The object with this name; one is made where there is none.
fn object_at<'a>(members: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let entry = members.entry(name).or_insert_with(|| json!({}));
    if !entry.is_object() {
        *entry = json!({});
    }
    match entry {
        Value::Object(members) => members,
        // Made an object above.
        _ => unreachable!("an object was put there"),
    }
}

/// JSON pointers write `~` and `/` as `~0` and `~1`.
fn unescape(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

fn refused(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}
