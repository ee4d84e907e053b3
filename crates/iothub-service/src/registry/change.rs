//! Read, change, write back: small changes of identities that lose nothing of what others wrote.

use iothub_common::{Error, ErrorKind, Result, SymmetricKey};
use serde::Serialize;

use super::Registry;
use crate::models::{Authentication, AuthenticationType, Device, DeviceStatus, Module, Twin, TwinPatch};

/// How many times a change is begun anew because somebody else was faster.
const ROUNDS: u32 = 5;

/// One of the two keys of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeySlot {
    /// The first key, which is in the connection strings that [`Device::connection_string`] makes.
    Primary,
    /// The second key.
    Secondary,
}

impl Registry {
    /// Reads a device, lets `change` change it, and writes it back if nobody else changed it meanwhile; else begins anew,
    /// five times at most. Gives the device as it is then.
    ///
    /// ```no_run
    /// # async fn run(registry: iothub_service::Registry) -> iothub_service::Result<()> {
    /// registry.change_device("pump-7", |device| device.status_reason = Some("checked".into())).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Registry::get_device`] and [`Registry::update_device`].
    pub async fn change_device(
        &self,
        device_id: &str,
        mut change: impl FnMut(&mut Device) + Send,
    ) -> Result<Device> {
        let change = |device: &mut Device| {
            change(device);
            Ok(())
        };
        self.try_change_device(device_id, change).await
    }

    /// [`Registry::change_device`] for a module.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::get_module`] and [`Registry::update_module`].
    pub async fn change_module(
        &self,
        device_id: &str,
        module_id: &str,
        mut change: impl FnMut(&mut Module) + Send,
    ) -> Result<Module> {
        let change = |module: &mut Module| {
            change(module);
            Ok(())
        };
        self.try_change_module(device_id, module_id, change).await
    }

    /// Lets a device connect, or forbids it, with a reason of up to 128 characters. A device that is disabled is
    /// disconnected, its modules too.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::change_device`].
    pub async fn set_device_status(
        &self,
        device_id: &str,
        status: DeviceStatus,
        reason: Option<&str>,
    ) -> Result<Device> {
        self.change_device(device_id, |device| {
            device.status = status.clone();
            device.status_reason = reason.map(str::to_owned);
        })
        .await
    }

    /// Replaces one key of a device by a new random one. The other key goes on opening the door: let programs use that
    /// one first, then replace this one.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::change_device`]; [`InvalidInput`](ErrorKind::InvalidInput) when the device does not
    /// authenticate by keys.
    pub async fn rotate_device_key(&self, device_id: &str, slot: KeySlot) -> Result<Device> {
        let key = SymmetricKey::generate()?;
        self.try_change_device(device_id, |device| set_key(&mut device.authentication, slot, &key)).await
    }

    /// Replaces one key of a module by a new random one, see [`Registry::rotate_device_key`].
    ///
    /// # Errors
    ///
    /// Those of [`Registry::change_module`]; [`InvalidInput`](ErrorKind::InvalidInput) when the module does not
    /// authenticate by keys.
    pub async fn rotate_module_key(&self, device_id: &str, module_id: &str, slot: KeySlot) -> Result<Module> {
        let key = SymmetricKey::generate()?;
        let change = |module: &mut Module| set_key(&mut module.authentication, slot, &key);
        self.try_change_module(device_id, module_id, change).await
    }

    /// Merges into the tags of a device; `null` removes. The desired properties stay as they are.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_device_twin`].
    pub async fn update_device_tags(&self, device_id: &str, tags: &(impl Serialize + Sync)) -> Result<Twin> {
        self.update_device_twin(device_id, &TwinPatch::new().tags(tags)).await
    }

    /// Merges into the tags of a module; `null` removes. The desired properties stay as they are.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::update_module_twin`].
    pub async fn update_module_tags(
        &self,
        device_id: &str,
        module_id: &str,
        tags: &(impl Serialize + Sync),
    ) -> Result<Twin> {
        self.update_module_twin(device_id, module_id, &TwinPatch::new().tags(tags)).await
    }

    async fn try_change_device(
        &self,
        device_id: &str,
        mut change: impl FnMut(&mut Device) -> Result<()> + Send,
    ) -> Result<Device> {
        let mut further_rounds = 1..ROUNDS;
        loop {
            let mut device = self.get_device(device_id).await?;
            change(&mut device)?;
            match self.update_device(&device).await {
                Err(error) if was_overtaken(&error) && further_rounds.next().is_some() => {}
                result => return result,
            }
        }
    }

    async fn try_change_module(
        &self,
        device_id: &str,
        module_id: &str,
        mut change: impl FnMut(&mut Module) -> Result<()> + Send,
    ) -> Result<Module> {
        let mut further_rounds = 1..ROUNDS;
        loop {
            let mut module = self.get_module(device_id, module_id).await?;
            change(&mut module)?;
            match self.update_module(&module).await {
                Err(error) if was_overtaken(&error) && further_rounds.next().is_some() => {}
                result => return result,
            }
        }
    }
}

fn was_overtaken(error: &Error) -> bool {
    error.kind() == ErrorKind::PreconditionFailed
}

fn set_key(authentication: &mut Authentication, slot: KeySlot, key: &SymmetricKey) -> Result<()> {
    if authentication.kind != AuthenticationType::Sas {
        let message = format!("it has no keys to rotate: it authenticates by `{}`", authentication.kind);
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let keys = &mut authentication.symmetric_key;
    match slot {
        KeySlot::Primary => keys.primary_key = Some(key.to_base64()),
        KeySlot::Secondary => keys.secondary_key = Some(key.to_base64()),
    }
    Ok(())
}
