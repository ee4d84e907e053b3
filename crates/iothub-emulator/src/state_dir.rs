//! The directory where a hub keeps what clients rely on between two runs: its authority and its policy keys.
//!
//! ```text
//! authority.pem   private key and certificate of the authority      0600
//! ca.pem          the certificate alone, for clients to trust       0644
//! policies.json   keys of the shared access policies                0600
//! hub.env         where the running hub is, for a shell to source   0600
//! ```
//!
//! Files appear whole or not at all (written aside, then linked or renamed), so two hubs that start on one new
//! directory agree on the keys, and a reader never sees half a file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use iothub_common::SymmetricKey;
use serde::{Deserialize, Serialize};

use crate::hub::Policy;
use crate::tls::{Authority, TlsError};

const AUTHORITY: &str = "authority.pem";
const CA: &str = "ca.pem";
const POLICIES: &str = "policies.json";
const ENV: &str = "hub.env";

/// What goes wrong with a state directory; always names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged; delete it to get a new authority, which clients must trust anew", path.display())]
    Authority { path: PathBuf, source: TlsError },
    #[error("{} is damaged; delete it to get new policy keys", path.display())]
    Policies { path: PathBuf, source: Cause },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A state directory that exists and can be written.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Opens the directory, making it and its parents where they are missing (mode 0700).
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        // Absolute: it ends up in `hub.env`, which is read from other working directories.
        let path = std::path::absolute(path).map_err(failed("find", path))?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(failed("create the state directory", &path))?;
        Ok(Self { path })
    }

    /// Where `ca.pem` is, absolute.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path.join(CA)
    }

    /// The authority kept here, a new one the first time. Leaves its certificate in `ca.pem`.
    pub(crate) fn authority(&self) -> Result<Authority, StateError> {
        let path = self.path.join(AUTHORITY);
        let pem = match read(&path)? {
            Some(pem) => pem,
            None => create(&path, &Authority::generate()?.to_pem())?,
        };
        let authority = Authority::from_pem(&pem).map_err(|source| StateError::Authority { path, source })?;

        let ca_file = self.ca_file();
        if read(&ca_file)?.as_deref() != Some(authority.ca_pem()) {
            replace(&ca_file, authority.ca_pem(), Access::Everyone)?;
        }
        Ok(authority)
    }

    /// The policies with the keys kept here; those not seen before keep the `fresh` ones from now on.
    pub(crate) fn policies(&self, fresh: Vec<Policy>) -> Result<Vec<Policy>, StateError> {
        let path = self.path.join(POLICIES);
        let text = match read(&path)? {
            Some(text) => text,
            None => create(&path, &stored_text(&StoredPolicies::default().with(&fresh), &path)?)?,
        };
        let stored: StoredPolicies =
            serde_json::from_str(&text).map_err(|error| damaged(&path, error.into()))?;
        if fresh.iter().any(|policy| !stored.0.contains_key(&policy.name)) {
            replace(&path, &stored_text(&stored.clone().with(&fresh), &path)?, Access::Owner)?;
        }
        fresh.into_iter().map(|policy| stored.apply(policy).map_err(|error| damaged(&path, error))).collect()
    }

    /// Writes `hub.env`: lines a POSIX shell can source.
    pub(crate) fn write_env(&self, variables: &[(&str, String)]) -> Result<PathBuf, StateError> {
        let path = self.path.join(ENV);
        let text: String =
            variables.iter().map(|(name, value)| format!("{name}={}\n", shell_quote(value))).collect();
        replace(&path, &text, Access::Owner)?;
        Ok(path)
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What `policies.json` holds: keys by policy name.
#[derive(Clone, Default, Serialize, Deserialize)]
struct StoredPolicies(BTreeMap<String, StoredKeys>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredKeys {
    primary_key: String,
    secondary_key: String,
}

impl StoredPolicies {
    /// With the policies that are missing.
    fn with(mut self, policies: &[Policy]) -> Self {
        for policy in policies {
            self.0.entry(policy.name.clone()).or_insert_with(|| StoredKeys {
                primary_key: policy.primary.to_base64().reveal().to_owned(),
                secondary_key: policy.secondary.to_base64().reveal().to_owned(),
            });
        }
        self
    }

    /// The policy with its stored keys, if there are any.
    fn apply(&self, mut policy: Policy) -> Result<Policy, Cause> {
        if let Some(keys) = self.0.get(&policy.name) {
            policy.primary = SymmetricKey::from_base64(&keys.primary_key)?;
            policy.secondary = SymmetricKey::from_base64(&keys.secondary_key)?;
        }
        Ok(policy)
    }
}

fn stored_text(policies: &StoredPolicies, path: &Path) -> Result<String, StateError> {
    let text = serde_json::to_string_pretty(policies).map_err(|error| damaged(path, error.into()))?;
    Ok(text + "\n")
}

fn damaged(path: &Path, source: Cause) -> StateError {
    StateError::Policies { path: path.to_owned(), source }
}

/// In single quotes nothing is special to a shell but the quote itself.
fn shell_quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io { action, path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Option<String>, StateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Writes a private file that must not exist yet. Where somebody was faster, theirs counts. Returns what is there.
fn create(path: &Path, text: &str) -> Result<String, StateError> {
    let aside = write_aside(path, text, Access::Owner).map_err(failed("write", path))?;
    // Unlike a rename, a link never replaces.
    let linked = fs::hard_link(&aside, path);
    let removed = fs::remove_file(&aside);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("write", path)(error)),
        _ => {
            removed.map_err(failed("remove", &aside))?;
            fs::read_to_string(path).map_err(failed("read", path))
        }
    }
}

/// Writes a file in the place of what may be there.
fn replace(path: &Path, text: &str, access: Access) -> Result<(), StateError> {
    let aside = write_aside(path, text, access).map_err(failed("write", path))?;
    fs::rename(&aside, path).map_err(failed("write", path))
}

#[derive(Clone, Copy)]
enum Access {
    Owner,
    Everyone,
}

fn write_aside(path: &Path, text: &str, access: Access) -> io::Result<PathBuf> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    // A rest of a process that had our id and was killed half-way.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_new(&aside, access)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(aside)
}

fn open_new(path: &Path, access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        match access {
            Access::Owner => 0o600,
            Access::Everyone => 0o644,
        },
    );
    #[cfg(not(unix))]
    let _ = access;
    options.open(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hub::Rights;

    fn policies(names: &[&str]) -> Vec<Policy> {
        names.iter().map(|name| Policy::generate(*name, Rights::ALL).unwrap()).collect()
    }

    fn keys(policies: &[Policy]) -> Vec<String> {
        policies.iter().map(|policy| policy.primary.to_base64().reveal().to_owned()).collect()
    }

    #[test]
    fn authority_and_keys_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDir::open(&root.path().join("a/b")).unwrap();
        let second = StateDir::open(&root.path().join("a/b")).unwrap();
        assert_eq!(first.authority().unwrap().ca_pem(), second.authority().unwrap().ca_pem());

        let fresh = policies(&["a", "b"]);
        let made = first.policies(fresh.clone()).unwrap();
        assert_eq!(keys(&made), keys(&fresh));
        let read = second.policies(policies(&["a", "b"])).unwrap();
        assert_eq!(keys(&read), keys(&fresh));
    }

    #[test]
    fn new_policy_leaves_the_others() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(root.path()).unwrap();
        let before = state.policies(policies(&["b"])).unwrap();
        let after = state.policies(policies(&["a", "b"])).unwrap();
        assert_eq!(keys(&after)[1], keys(&before)[0]);
        assert_eq!(keys(&state.policies(policies(&["a", "b"])).unwrap()), keys(&after));
    }

    #[test]
    fn faster_creator_wins() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        assert_eq!(create(&path, "one").unwrap(), "one");
        assert_eq!(create(&path, "two").unwrap(), "one");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn damaged_files_are_named_and_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(root.path()).unwrap();
        for name in [AUTHORITY, POLICIES] {
            fs::write(root.path().join(name), "garbage").unwrap();
        }
        let error = state.authority().err().unwrap().to_string();
        assert!(error.contains("authority.pem is damaged"), "{error}");
        let error = state.policies(policies(&["a"])).unwrap_err().to_string();
        assert!(error.contains("policies.json is damaged"), "{error}");
        assert_eq!(fs::read_to_string(root.path().join(POLICIES)).unwrap(), "garbage");
    }

    #[test]
    fn env_values_are_quoted_for_a_shell() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(root.path()).unwrap();
        let path = state.write_env(&[("A", "x;y z=".into()), ("B", "it's $HOME".into())]).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "A='x;y z='\nB='it'\\''s $HOME'\n");
    }

    #[cfg(unix)]
    #[test]
    fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(root.path()).unwrap();
        state.authority().unwrap();
        state.policies(policies(&["a"])).unwrap();
        state.write_env(&[]).unwrap();
        let mode = |name: &str| fs::metadata(root.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([AUTHORITY, POLICIES, ENV].map(mode), [0o600; 3]);
    }
}
