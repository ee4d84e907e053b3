// Creates a device and a module with azure-iothub and prints their connection strings as one JSON line.
// `node node_registry.js DEVICE_ID MODULE_ID`; the hub is in the environment.
'use strict';

const { deviceString, moduleString, registry } = require('./support.js');

async function main(deviceId, moduleId) {
  const hub = registry();
  const { responseBody: device } = await hub.create({ deviceId });
  await hub.addModule({ deviceId, moduleId });
  const { responseBody: module } = await hub.getModule(deviceId, moduleId);
  const keyOf = (identity) => identity.authentication.symmetricKey.primaryKey;
  console.log(JSON.stringify({
    device: deviceString(deviceId, keyOf(device)),
    module: moduleString(deviceId, moduleId, keyOf(module)),
  }));
}

main(...process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
