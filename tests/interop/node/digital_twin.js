// azure-iothub's DigitalTwinClient against a hub: the twin of a device seen through its model, and commands.
'use strict';

const assert = require('node:assert');
const { Client } = require('azure-iot-device');
const { DigitalTwinClient, IoTHubTokenCredentials } = require('azure-iothub');
const { createDevice, deviceTransport, hub, id, promise, registry, run } = require('./support.js');

const twins = new DigitalTwinClient(new IoTHubTokenCredentials(hub));
let device;
let client;

run('digital twin', {
  async 'a device with a component'() {
    device = await createDevice('thermostat');
    client = Client.fromConnectionString(device.text, deviceTransport);
    await client.open();
    const twin = await client.getTwin();
    await promise((done) => twin.properties.reported.update({
      serialNumber: 'S1', sensor: { __t: 'c', unit: 'C' },
    }, done));
    const { _response: response, ...document } = await twins.getDigitalTwin(device.deviceId);
    assert.strictEqual(response.status, 200);
    assert.strictEqual(document.$dtId, device.deviceId);
    assert.strictEqual(document.serialNumber, 'S1');
    assert.strictEqual(document.sensor.unit, 'C');
  },
  async 'a patch becomes desired properties'() {
    await twins.updateDigitalTwin(device.deviceId, [
      { op: 'add', path: '/target', value: 21.5 },
      { op: 'add', path: '/sensor/interval', value: 10 },
    ]);
    const { desired } = (await registry().getTwin(device.deviceId)).responseBody.properties;
    assert.strictEqual(desired.target, 21.5);
    assert.strictEqual(desired.sensor.interval, 10);
  },
  async 'commands'() {
    client.onDeviceMethod('reboot', (request, response) => response.send(200, { after: request.payload }));
    client.onDeviceMethod('sensor*calibrate', (request, response) => response.send(202, request.payload));
    const wait = { connectTimeoutInSeconds: 30, responseTimeoutInSeconds: 30 };
    const reboot = await twins.invokeCommand(device.deviceId, 'reboot', '5', wait);
    assert.deepStrictEqual(reboot.body ?? JSON.parse(reboot._response.bodyAsText), { after: '5' });
    assert.strictEqual(reboot.xMsCommandStatuscode, 200);
    const calibrate = await twins.invokeComponentCommand(device.deviceId, 'sensor', 'calibrate', 'zero', wait);
    assert.strictEqual(calibrate.xMsCommandStatuscode, 202);
    await client.close();
  },
  async 'a device that is not there'() {
    await assert.rejects(twins.getDigitalTwin(id('nobody')), (error) => error.statusCode === 404);
  },
});
