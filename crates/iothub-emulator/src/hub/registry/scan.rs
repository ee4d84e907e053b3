//! Going through all identities in the order of their ids, from anywhere.

use std::ops::Bound;

use super::device::Device;
use super::module::Module;
use super::state::State;

impl State {
    /// Devices whose ids come after `after`.
    pub(in crate::hub) fn devices_after<'a>(
        &'a self,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a Device)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.devices.range::<str, _>((start, Bound::Unbounded)).map(|(id, device)| (id.as_str(), device))
    }

    /// Modules whose device and own ids come after `after`.
    pub(in crate::hub) fn modules_after<'a>(
        &'a self,
        after: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = (&'a str, &'a Device, &'a str, &'a Module)> {
        let start = after.map_or(Bound::Unbounded, |(device, _)| Bound::Included(device));
        self.devices.range::<str, _>((start, Bound::Unbounded)).flat_map(move |(device_id, device)| {
            // Only the device the key names has modules before it.
            let start = match after {
                Some((of, module)) if of == device_id => Bound::Excluded(module),
                _ => Bound::Unbounded,
            };
            let modules = device.modules.range::<str, _>((start, Bound::Unbounded));
            modules.map(move |(id, module)| (device_id.as_str(), device, id.as_str(), module))
        })
    }
}
