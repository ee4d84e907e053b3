//! Get or create: what a program wants that may run twice.

use std::ops::Deref;

use iothub_common::{Error, ErrorKind, Identity, Result};

use super::Registry;
use crate::models::{Device, Module, NewDevice, NewModule};

/// An identity that is there now: made by this call, or found.
///
/// Fields of the identity are read through it: `ensured.device_id`.
#[derive(Clone, Copy, Debug)]
pub enum Ensured<T> {
    /// This call made it.
    Created(T),
    /// It was there before and was left as it is.
    Found(T),
}

impl<T> Ensured<T> {
    /// Whether this call made it.
    pub fn was_created(&self) -> bool {
        matches!(self, Self::Created(_))
    }

    /// The identity.
    pub fn into_inner(self) -> T {
        match self {
            Self::Created(identity) | Self::Found(identity) => identity,
        }
    }
}

impl<T> Deref for Ensured<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Created(identity) | Self::Found(identity) => identity,
        }
    }
}

impl Registry {
    /// Creates a device, or reads it where one with this id exists. A device that exists is left as it is, also
    /// where it differs from `device`.
    ///
    /// When an answer was lost, the device may have been made by this call and still come back as
    /// [`Ensured::Found`].
    ///
    /// # Errors
    ///
    /// Those of [`Registry::create_device`] and [`Registry::get_device`], but
    /// [`AlreadyExists`](ErrorKind::AlreadyExists).
    pub async fn get_or_create_device(&self, device: impl Into<NewDevice>) -> Result<Ensured<Device>> {
        let device = device.into();
        let identity = Identity::device(&device.device_id)?;
        match self.create_device(device).await {
            Ok(device) => Ok(Ensured::Created(device)),
            Err(error) if may_be_there(&error) => {
                self.get_device(identity.device_id()).await.map(Ensured::Found)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds a module to a device, or reads it where the device has one with this id. A module that exists is left
    /// as it is, also where it differs from `module`.
    ///
    /// When an answer was lost, the module may have been made by this call and still come back as
    /// [`Ensured::Found`].
    ///
    /// # Errors
    ///
    /// Those of [`Registry::add_module`] and [`Registry::get_module`], but
    /// [`AlreadyExists`](ErrorKind::AlreadyExists).
    pub async fn get_or_add_module(
        &self,
        device_id: &str,
        module: impl Into<NewModule>,
    ) -> Result<Ensured<Module>> {
        let module = module.into();
        let module_id = module.module_id.clone();
        match self.add_module(device_id, module).await {
            Ok(module) => Ok(Ensured::Created(module)),
            Err(error) if may_be_there(&error) => {
                self.get_module(device_id, &module_id).await.map(Ensured::Found)
            }
            Err(error) => Err(error),
        }
    }
}

fn may_be_there(error: &Error) -> bool {
    error.kind() == ErrorKind::AlreadyExists || error.may_have_been_applied()
}
