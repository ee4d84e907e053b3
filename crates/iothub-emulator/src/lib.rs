//! A local Azure IoT Hub for development and tests, as a library and a program
