// A module on azure-iot-device that finds everything in its environment, as on an IoT Edge device. The workload API is
// the local hub's, at IOTHUB_EDGE_WORKLOAD.
'use strict';

const assert = require('node:assert');
const { ModuleClient } = require('azure-iot-device');
const { createDevice, deviceTransport, hostName, promise, registry, run } = require('./support.js');

async function environment(deviceId, moduleId) {
  const { responseBody: module } = await registry().getModule(deviceId, moduleId);
  return {
    IOTEDGE_WORKLOADURI: process.env.IOTHUB_EDGE_WORKLOAD,
    IOTEDGE_DEVICEID: deviceId,
    IOTEDGE_MODULEID: moduleId,
    IOTEDGE_MODULEGENERATIONID: module.generationId,
    IOTEDGE_IOTHUBHOSTNAME: hostName(),
    IOTEDGE_GATEWAYHOSTNAME: hostName(),
    IOTEDGE_AUTHSCHEME: 'sasToken',
  };
}

run('edge', {
  async 'the runtime signs and says whom to trust'() {
    const { deviceId } = await createDevice('edge');
    await registry().addModule({ deviceId, moduleId: 'm@1' });
    Object.assign(process.env, await environment(deviceId, 'm@1'));
    const client = await ModuleClient.fromEnvironment(deviceTransport);
    await client.open();
    const twin = await client.getTwin();
    await promise((done) => twin.properties.reported.update({ edge: true }, done));
    const { responseBody: seen } = await registry().getModuleTwin(deviceId, 'm@1');
    assert.strictEqual(seen.properties.reported.edge, true);
    await client.close();
  },
  async 'a generation nobody has is refused'() {
    process.env.IOTEDGE_MODULEGENERATIONID = '1';
    const client = await ModuleClient.fromEnvironment(deviceTransport).catch((error) => error);
    // Some versions ask for a signature at once, some when they connect.
    const error = client instanceof Error ? client : await client.open().then(() => null, (error) => error);
    assert(error instanceof Error, 'it went well');
  },
});
