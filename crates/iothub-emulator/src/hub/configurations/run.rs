//! Carries out all configurations: targets, settings, metrics (twins.md 6.1).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use iothub_common::Identity;

use super::content::{Content, Settings};
use super::model::{self, Configuration, Counts};
use super::plan::{Plan, Source};
use crate::hub::Inner;
use crate::hub::query::{self, Condition, Row};
use crate::hub::timestamp::Timestamp;
use crate::hub::twin::ConfigurationStatus;

/// A configuration with its condition ready to be asked.
struct Ready<'a> {
    id: &'a str,
    configuration: &'a Configuration,
    condition: Condition,
    /// None for deployments to edge devices.
    settings: &'a Settings,
}

impl Inner {
    /// Targets all twins anew, writes and removes settings, tells the devices, and counts.
    pub(super) fn run_configurations(&mut self, now: Timestamp) {
        let all = std::mem::take(&mut self.configurations.all);
        let none = Settings::new();
        let ready: Vec<_> =
            all.iter().filter_map(|(id, configuration)| ready(id, configuration, &none)).collect();
        let plans = self.plans(&ready);
        for (identity, plan) in plans {
            self.carry_out(&identity, plan, now);
        }
        let mut counts = self.count_statuses();
        drop(ready);

        self.configurations.all = all;
        let metrics: Vec<_> = self.configurations.all.values().map(|one| self.custom_metrics(one)).collect();
        for ((id, configuration), metrics) in self.configurations.all.iter_mut().zip(metrics) {
            let (targeted, applied) = counts.remove(id).unwrap_or_default();
            configuration.counts = Counts { targeted, applied, metrics };
        }
    }

    /// What is to be done to each twin that is not as it should be.
    fn plans(&self, ready: &[Ready<'_>]) -> Vec<(Identity, Plan)> {
        let mut plans = Vec::new();
        for source in [query::Source::Devices, query::Source::Modules] {
            // Never breaks.
            let _ = query::scan(self, source, &[], |_, row| {
                let Row::Twin(subject) = row else { return ControlFlow::Continue(()) };
                let targeting: Vec<_> = ready
                    .iter()
                    .filter(|one| one.condition.source() == source && one.condition.holds(row))
                    .map(Ready::source)
                    .collect();
                let twin = subject.twin();
                if targeting.is_empty() && twin.has_configurations(&BTreeMap::new()) {
                    return ControlFlow::Continue(());
                }
                let plan = Plan::new(twin, targeting);
                if !plan.is_done(twin) {
                    plans.extend(subject.identity().map(|identity| (identity, plan)));
                }
                ControlFlow::Continue(())
            });
        }
        plans
    }

    fn carry_out(&mut self, identity: &Identity, plan: Plan, now: Timestamp) {
        let Ok(twin) = self.state.twin_mut(identity) else { return };
        let mut statuses = plan.statuses;
        let writes = plan.writes.into_iter().map(|(writer, patch)| (Some(writer), patch));
        let all = (!plan.removals.is_empty()).then_some((None, plan.removals)).into_iter().chain(writes);
        for (writer, patch) in all {
            let id = writer.as_ref().map(|writer| writer.id.clone());
            match (twin.configure(patch, writer, now), id) {
                (Ok(Some(notification)), _) => self.live.notify(identity, &notification),
                // The section would be too large: it waits for room.
                (Err(_), Some(id)) => {
                    statuses.insert(id, ConfigurationStatus::Targeted);
                }
                _ => {}
            }
        }
        twin.set_configurations(statuses);
    }

    /// By configuration: how many twins it targets, and on how many it is applied.
    fn count_statuses(&self) -> BTreeMap<String, (u64, u64)> {
        let mut counts = BTreeMap::<String, (u64, u64)>::new();
        for source in [query::Source::Devices, query::Source::Modules] {
            // Never breaks.
            let _ = query::scan(self, source, &[], |_, row| {
                if let Row::Twin(subject) = row {
                    for (id, status) in subject.twin().configurations() {
                        let (targeted, applied) = counts.entry(id.clone()).or_default();
                        *targeted += 1;
                        *applied += u64::from(*status == ConfigurationStatus::Applied);
                    }
                }
                ControlFlow::Continue(())
            });
        }
        counts
    }

    fn custom_metrics(&self, configuration: &Configuration) -> Vec<(String, u64)> {
        let metrics = configuration.spec.metrics.iter();
        // Checked when the configuration was written.
        metrics
            .filter_map(|(name, query)| Some((name.clone(), model::metric(name, query).ok()?.count(self))))
            .collect()
    }
}

impl<'a> Ready<'a> {
    fn source(&self) -> Source<'a> {
        Source {
            id: self.id,
            priority: self.configuration.spec.priority,
            created: self.configuration.created,
            digest: self.configuration.updated.ticks(),
            settings: self.settings,
        }
    }
}

fn ready<'a>(id: &'a str, configuration: &'a Configuration, none: &'a Settings) -> Option<Ready<'a>> {
    let settings = match &configuration.content {
        Content::Devices(settings) | Content::Modules(settings) => settings,
        Content::Edge => none,
    };
    // Checked when the configuration was written.
    let condition = model::condition(&configuration.spec.target_condition, &configuration.content).ok()??;
    Some(Ready { id, configuration, condition, settings })
}
