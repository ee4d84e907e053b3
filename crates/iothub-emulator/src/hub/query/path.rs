//! Paths: which value of a row they name.

use super::syntax::Source;
use crate::hub::twin::{Member, Place};

/// A path, resolved against the source of its query.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub(super) root: Root,
    /// What follows the root.
    pub(super) rest: Vec<String>,
    /// What a projection calls the value: the last name, as the hub spells it.
    pub(super) name: String,
}

/// The start of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Root {
    /// Below `tags`, `properties.desired` or `properties.reported`.
    Section(Place),
    /// Anything else of a twin.
    Member(Member),
    /// A member of a device job, as the hub spells it.
    Job(&'static str),
    /// What no row has.
    Unknown,
}

/// The members of a device job (twins.md 5.2).
const JOB_MEMBERS: [&str; 10] = [
    "deviceId",
    "jobId",
    "jobType",
    "status",
    "startTimeUtc",
    "endTimeUtc",
    "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc",
    "outcome",
    "error",
];

/// Members of the `properties` of a twin.
const SECTIONS: [(Place, &str); 2] = [(Place::Desired, "desired"), (Place::Reported, "reported")];

/// Attributes that are objects; their members are as insensitive to case as the attributes.
const NESTED: [&str; 3] = ["iotEdge", "primaryThumbprint", "secondaryThumbprint"];

impl Path {
    /// Twins may be called by their source: `devices.tags.a` is `tags.a` (inferred; for jobs documented).
    /// `names` is not empty. `None`: device jobs have no twins to ask (twins.md 5.1).
    pub(super) fn resolve(source: Source, mut names: Vec<String>) -> Option<Self> {
        strip_source(source, &mut names);
        let first = names.remove(0);
        match source {
            Source::Devices | Source::Modules => Some(Self::in_twin(&first, names)),
            Source::Jobs => Self::in_job(&first, names),
        }
    }

    fn in_twin(first: &str, mut rest: Vec<String>) -> Self {
        let Some((member, name)) = Member::named(first) else { return Self::unknown(first, rest) };
        match member {
            Member::Tags => Self::new(Root::Section(Place::Tags), name, rest),
            Member::Properties if !rest.is_empty() => {
                let section = rest.remove(0);
                match SECTIONS.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(&section)) {
                    Some((place, name)) => Self::new(Root::Section(place), name, rest),
                    None => Self::unknown(&section, rest),
                }
            }
            // Below are the ids of configurations.
            Member::Configurations => Self::new(Root::Member(member), name, rest),
            member => {
                let spelled = |name: String| {
                    let known = NESTED.into_iter().find(|known| known.eq_ignore_ascii_case(&name));
                    known.map_or(name, str::to_owned)
                };
                Self::new(Root::Member(member), name, rest.into_iter().map(spelled).collect())
            }
        }
    }

    fn in_job(first: &str, rest: Vec<String>) -> Option<Self> {
        if let Some(name) = JOB_MEMBERS.into_iter().find(|known| known.eq_ignore_ascii_case(first)) {
            return Some(Self::new(Root::Job(name), name, rest));
        }
        Member::named(first).is_none().then(|| Self::unknown(first, rest))
    }

    fn unknown(name: &str, rest: Vec<String>) -> Self {
        Self::new(Root::Unknown, name, rest)
    }

    fn new(root: Root, name: &str, rest: Vec<String>) -> Self {
        let name = rest.last().map_or(name, String::as_str).to_owned();
        Self { root, rest, name }
    }
}

/// Takes off a leading `devices`, `devices.modules` or `devices.jobs` as long as something is left.
fn strip_source(source: Source, names: &mut Vec<String>) {
    let prefix: &[&str] = match source {
        Source::Devices => &["devices"],
        Source::Modules => &["devices", "modules"],
        Source::Jobs => &["devices", "jobs"],
    };
    let starts = names.iter().zip(prefix).filter(|(name, known)| name.eq_ignore_ascii_case(known)).count();
    if starts == prefix.len() && names.len() > starts {
        names.drain(..starts);
    }
}
