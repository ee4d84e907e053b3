//! Configurations (rest.md 9).

use http::Method;
use iothub_common::{Identity, IfMatch, Result, Subject};

use super::Registry;
use super::devices::if_unchanged;
use super::jobs::path;
use crate::http::Call;
use crate::models::{
    Configuration, ConfigurationContent, ConfigurationQueries, ConfigurationQueriesTest, NewConfiguration,
    method,
};

/// The most configurations that a hub has (rest.md 14).
const MOST: usize = 100;

impl Registry {
    /// Creates a configuration. The hub applies it within minutes, and again whenever devices come to fit.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is one with this id;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), with the hub's words, for a condition, content or metric that
    /// it does not accept; [`QuotaExceeded`](crate::ErrorKind::QuotaExceeded) when the hub has 100 of them.
    pub async fn create_configuration(&self, configuration: NewConfiguration) -> Result<Configuration> {
        let path = configuration_path(&configuration.id)?;
        let subject = Subject::Configuration(&configuration.id);
        let call = Call::read("create configuration", path, subject).changing(Method::PUT);
        self.http.json(call.body(method::body(&configuration.json()?))).await
    }

    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is none with this id.
    pub async fn get_configuration(&self, id: &str) -> Result<Configuration> {
        let call = Call::read("get configuration", configuration_path(id)?, Subject::Configuration(id));
        self.http.json(call).await
    }

    /// Writes back a configuration that was read and changed, provided that nobody else changed it since. Labels,
    /// condition, priority and metrics can change.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) when it changed since it was read: read it again.
    /// [`NotFound`](crate::ErrorKind::NotFound) when it is gone. [`Rejected`](crate::ErrorKind::Rejected) when the
    /// content is another.
    pub async fn update_configuration(&self, configuration: &Configuration) -> Result<Configuration> {
        self.update_configuration_if_match(configuration, &if_unchanged(&configuration.etag)).await
    }

    /// [`Registry::update_configuration`] with a condition of your own; [`IfMatch::Any`] overwrites changes of others.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_configuration`].
    pub async fn update_configuration_if_match(
        &self,
        configuration: &Configuration,
        if_match: &IfMatch,
    ) -> Result<Configuration> {
        let path = configuration_path(&configuration.id)?;
        let call = Call::read("update configuration", path, Subject::Configuration(&configuration.id));
        self.http.json(call.changing(Method::PUT).if_match(if_match)?.json(configuration)?).await
    }

    /// Deletes a configuration. What it set on devices is taken away, and the next by priority comes into force.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is none with this id.
    pub async fn delete_configuration(&self, id: &str) -> Result<()> {
        self.delete_configuration_if_match(id, &IfMatch::Any).await
    }

    /// Deletes a configuration if its etag is still the one given.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) when it is not;
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such configuration.
    pub async fn delete_configuration_if_match(&self, id: &str, if_match: &IfMatch) -> Result<()> {
        let call = Call::read("delete configuration", configuration_path(id)?, Subject::Configuration(id));
        self.http.send(call.changing(Method::DELETE).if_match(if_match)?).await?;
        Ok(())
    }

    /// All configurations of the hub, at most 100.
    ///
    /// # Errors
    ///
    /// Those of every call, see [`Registry`].
    pub async fn list_configurations(&self) -> Result<Vec<Configuration>> {
        let hub = Subject::Hub(self.host_name());
        let call = Call::read("list configurations", "/configurations".to_owned(), hub);
        self.http.json(call.query("top", MOST)).await
    }

    /// Asks the hub what it thinks of a target condition and of metrics, without creating anything.
    ///
    /// # Errors
    ///
    /// Those of every call, see [`Registry`]; mistakes in the queries are in the answer.
    pub async fn test_configuration_queries(
        &self,
        queries: &ConfigurationQueries,
    ) -> Result<ConfigurationQueriesTest> {
        let hub = Subject::Hub(self.host_name());
        let call = Call::read("test configuration queries", "/configurations/testQueries".to_owned(), hub);
        self.http.json(call.posting().json(queries)?).await
    }

    /// Sets one edge device to a content, once: its modules and their desired properties. No configuration is created.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such device;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it is no edge device, or for a content the hub does not
    /// accept.
    pub async fn apply_configuration_content(
        &self,
        device_id: &str,
        content: &ConfigurationContent,
    ) -> Result<()> {
        let identity = Identity::device(device_id)?;
        let path = format!("{}/applyConfigurationContent", identity.http_path("devices"));
        let call = Call::read("apply configuration content", path, (&identity).into());
        self.http.send(call.changing(Method::POST).json(content)?).await?;
        Ok(())
    }
}

fn configuration_path(id: &str) -> Result<String> {
    path("/configurations", id, "configuration id")
}
