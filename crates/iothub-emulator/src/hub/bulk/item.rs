//! One line of a bulk request or an import: which identity, and what is to be done with it (rest.md 3.5).

use iothub_common::Identity;
use serde_json::{Map, Value};

use crate::hub::error::{ErrorCode, HubError};
use crate::hub::precondition::Precondition;

/// An identity and what is asked about it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) identity: Identity,
    pub(super) action: Action,
    /// The body of a PUT of the identity.
    pub(super) identity_body: Value,
    /// The body of a PATCH of the twin; none when the item does not speak of it.
    pub(super) twin_body: Option<Value>,
}

/// `importMode`, with the etag it compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Update(Precondition),
    CreateOrUpdate(Precondition),
    Delete(Precondition),
    UpdateTwin(Precondition),
}

/// Members that are part of an identity, by their names there.
const IDENTITY_MEMBERS: [&str; 7] =
    ["status", "statusReason", "authentication", "capabilities", "deviceScope", "parentScopes", "managedBy"];

/// Members that are part of a twin.
const TWIN_MEMBERS: [&str; 2] = ["tags", "properties"];

impl Item {
    /// Reads a line; names of members are matched without regard to case, as clients spell `eTag` in several
    /// ways. Unknown members are passed over.
    pub(super) fn read(line: &Value) -> Result<Self, HubError> {
        let members = Members(line.as_object().ok_or_else(|| invalid("an item must be a JSON object"))?);
        let id = members.text("id")?.ok_or_else(|| invalid("an item needs the 'id' of a device"))?;
        let identity = match members.text("moduleId")? {
            None => Identity::device(id),
            Some(module_id) => Identity::module(id, module_id),
        };
        let identity = identity.map_err(|error| invalid(error.to_string()))?;
        let twin_body = Some(members.pick(&TWIN_MEMBERS)).filter(|body| !body.is_empty());
        Ok(Self {
            identity,
            action: action(&members)?,
            identity_body: members.pick(&IDENTITY_MEMBERS).into(),
            twin_body: twin_body.map(Value::Object),
        })
    }
}

/// The ids of a line as they were written, for errors and for finding duplicates.
pub(super) fn ids(line: &Value) -> (Option<&str>, Option<&str>) {
    let Some(members) = line.as_object().map(Members) else { return (None, None) };
    let text = |name| members.get(name).and_then(Value::as_str);
    (text("id"), text("moduleId"))
}

fn action(members: &Members<'_>) -> Result<Action, HubError> {
    const ANY: Precondition = Precondition::IfMatch(None);
    let Some(mode) = members.text("importMode")? else {
        return Ok(Action::CreateOrUpdate(ANY));
    };
    let etag = |name| {
        let etag = members.text(name)?;
        let etag = etag.ok_or_else(|| invalid(format!("importMode '{mode}' needs '{name}'")))?;
        Ok::<_, HubError>(Precondition::from_headers(Some(etag), None))
    };
    Ok(match mode.to_ascii_lowercase().as_str() {
        "create" => Action::Create,
        "update" => Action::Update(ANY),
        "updateifmatchetag" => Action::Update(etag("eTag")?),
        "createorupdate" => Action::CreateOrUpdate(ANY),
        "createorupdateifmatchetag" => Action::CreateOrUpdate(etag("eTag")?),
        "delete" => Action::Delete(ANY),
        "deleteifmatchetag" => Action::Delete(etag("eTag")?),
        "updatetwin" => Action::UpdateTwin(ANY),
        "updatetwinifmatchetag" => Action::UpdateTwin(etag("twinETag")?),
        _ => {
            return Err(invalid(format!(
                "importMode '{mode}' is none of create, update, updateIfMatchETag, createOrUpdate, \
                 createOrUpdateIfMatchETag, delete, deleteIfMatchETag, updateTwin, updateTwinIfMatchETag"
            )));
        }
    })
}

struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Absent, null and `""` are all "not given".
    fn text(&self, name: &str) -> Result<Option<&'a str>, HubError> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(invalid(format!("'{name}' must be a string"))),
        }
    }

    /// An object with these members, as far as they are given.
    fn pick(&self, names: &[&str]) -> Map<String, Value> {
        let given = |name: &&str| {
            Some(((*name).to_owned(), self.get(name).filter(|value| !value.is_null())?.clone()))
        };
        names.iter().filter_map(given).collect()
    }
}

pub(super) fn invalid(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}
