//! The device half of the Azure IoT Hub SDK: modules and devices over AMQP, with twins
