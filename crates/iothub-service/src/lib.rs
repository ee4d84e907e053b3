//! The service half of the Azure IoT Hub SDK: identities, twins and the rest of the registry
