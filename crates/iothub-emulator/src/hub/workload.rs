//! Signing for modules that have no key: what the runtime of an IoT Edge device does for its own (rest.md 12.1).

use iothub_common::Identity;

use super::Hub;
use super::error::{ErrorCode, HubError};

impl Hub {
    /// HMAC-SHA256 of a text with the primary key of a module, in base64. The module is told by its id and its
    /// generation, which no other identity of the hub has had.
    ///
    /// # Errors
    ///
    /// 404010 when there is no such module, 400004 when it has no key.
    pub fn sign_for_module(&self, module_id: &str, generation: &str, text: &str) -> Result<String, HubError> {
        let inner = self.lock();
        let of_generation =
            |module: &&super::registry::Module| module.record.generation().to_string() == generation;
        let found =
            inner.state.devices().find_map(|device| device.modules.get(module_id).filter(of_generation));
        let module = found.ok_or_else(|| {
            let text = format!("there is no module {module_id} of the generation {generation}");
            HubError::new(ErrorCode::ModuleNotFound, text)
        })?;
        let authentication = &module.record.authentication;
        let keys = authentication.keys().ok_or_else(|| {
            let kind = authentication.kind();
            let text = format!("module {module_id} has no key, its authentication type is '{kind}'");
            HubError::new(ErrorCode::ArgumentInvalid, text)
        })?;
        Ok(keys.primary.derive(text).to_base64().reveal().to_owned())
    }

    /// The generation of a module.
    ///
    /// # Errors
    ///
    /// 404001, 404010.
    pub fn module_generation(&self, device_id: &str, module_id: &str) -> Result<String, HubError> {
        let identity = Identity::module(device_id, module_id)
            .map_err(|error| HubError::new(ErrorCode::ArgumentInvalid, error.to_string()))?;
        Ok(self.lock().state.record(&identity)?.generation().to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hub::{HubConfig, Precondition};

    #[test]
    fn the_module_of_that_generation_signs_with_its_primary_key() {
        let hub = Hub::new(HubConfig::default());
        let new = || Precondition::None;
        // Twice the same id: on two devices, with keys of their own.
        for (device, key) in [("one", "MDEyMzQ1Njc4OWFiY2RlZg=="), ("two", "ZmVkY2JhOTg3NjU0MzIxMA==")] {
            hub.put_device(device, &json!({}), new()).unwrap();
            let keys = json!({ "primaryKey": key, "secondaryKey": "c2Vjb25kYXJ5LXNlY29uZGFyeQ==" });
            hub.put_module(device, "m", &json!({ "authentication": { "symmetricKey": keys } }), new())
                .unwrap();
        }
        let generation = hub.module_generation("one", "m").unwrap();
        assert_ne!(generation, hub.module_generation("two", "m").unwrap());
        // printf 'h%%2Fdevices%%2Fone\n1' | openssl dgst -sha256 -hmac 0123456789abcdef -binary | base64
        assert_eq!(
            hub.sign_for_module("m", &generation, "h%2Fdevices%2Fone\n1").unwrap(),
            "yONrx8Pm7EQLl+TSkw9/DbE17O5HdIhsCr3edZKtxIw="
        );
        for (module, generation) in [("other", generation.as_str()), ("m", "1"), ("m", "")] {
            assert_eq!(hub.sign_for_module(module, generation, "x").unwrap_err().code, 404_010);
        }
        let body = json!({ "authentication": { "type": "none" } });
        hub.put_module("one", "keyless", &body, new()).unwrap();
        let generation = hub.module_generation("one", "keyless").unwrap();
        assert_eq!(hub.sign_for_module("keyless", &generation, "x").unwrap_err().code, 400_004);
    }
}
