// azure-iot-device over azure-iot-device-amqp against a hub: twins, telemetry, refusals. The other side is azure-iothub.
'use strict';

const assert = require('node:assert');
const { Client, Message, ModuleClient } = require('azure-iot-device');
const { Amqp } = require('azure-iot-device-amqp');
const { deviceString, failure, id, key, moduleString, promise, registry, run, within } = require('./support.js');

const deviceId = id('device');
const moduleId = 'module';
const hubRegistry = registry();
let deviceKey;
let moduleKey;

async function open(connectionString, Kind = Client) {
  const client = Kind.fromConnectionString(connectionString, Amqp);
  // A connection lost on purpose is reported here as well.
  client.on('error', () => {});
  await client.open();
  return client;
}

const report = (twin, patch) => promise((done) => twin.properties.reported.update(patch, done));

// The patches that come in, each with a `next()` to wait for it. The first one is the state at subscription, which the
// package itself emits.
async function desiredOf(twin) {
  const seen = [];
  const waiting = [];
  twin.on('properties.desired', (patch) => {
    const copy = JSON.parse(JSON.stringify(patch));
    if (waiting.length) waiting.shift()(copy);
    else seen.push(copy);
  });
  // `on` subscribes and does not say when that is done; what is sent after it is answered after it.
  await report(twin, { listening: true });
  return { next: () => (seen.length ? Promise.resolve(seen.shift()) : new Promise((done) => { waiting.push(done); })) };
}

const setDesired = (desired) => hubRegistry.updateModuleTwin(deviceId, moduleId, { properties: { desired } }, '*');

async function twinRoundTrip(Kind) {
  const before = (await hubRegistry.getModuleTwin(deviceId, moduleId)).responseBody;
  const client = await open(moduleString(deviceId, moduleId, moduleKey), Kind);
  const twin = await client.getTwin();
  assert.strictEqual(twin.properties.desired.$version, before.properties.desired.$version);
  const desired = await desiredOf(twin);
  assert.strictEqual((await desired.next()).$version, before.properties.desired.$version);

  await setDesired({ firmware: { version: '1.2.1', channel: null }, list: [1, 2.5, 'x'] });
  const patch = await desired.next();
  assert.strictEqual(patch.$version, before.properties.desired.$version + 1);
  assert.deepStrictEqual(patch.list, [1, 2.5, 'x']);
  assert.strictEqual(patch.firmware.version, '1.2.1');

  await report(twin, { firmware: { version: '1.2.1', state: 'done' }, gone: 1 });
  await report(twin, { gone: null });
  const { reported } = (await hubRegistry.getModuleTwin(deviceId, moduleId)).responseBody.properties;
  assert.deepStrictEqual(reported.firmware, { version: '1.2.1', state: 'done' });
  assert.ok(!('gone' in reported));
  assert.strictEqual(reported.$version, before.properties.reported.$version + 3);
  await client.close();
}

run('device', {
  async 'identities'() {
    const { responseBody: device } = await hubRegistry.create({ deviceId });
    deviceKey = device.authentication.symmetricKey.primaryKey;
    await hubRegistry.addModule({ deviceId, moduleId });
    const { responseBody: module } = await hubRegistry.getModule(deviceId, moduleId);
    moduleKey = module.authentication.symmetricKey.primaryKey;
  },
  async 'the twin of a module, with Client as in the tutorial'() {
    await twinRoundTrip(Client);
  },
  async 'the twin of a module, with ModuleClient'() {
    await twinRoundTrip(ModuleClient);
  },
  async 'the secondary key works too'() {
    const { responseBody: module } = await hubRegistry.getModule(deviceId, moduleId);
    const client = await open(moduleString(deviceId, moduleId, module.authentication.symmetricKey.secondaryKey));
    await client.getTwin();
    await client.close();
  },
  async 'several reports and patches in a row keep their order'() {
    const client = await open(moduleString(deviceId, moduleId, moduleKey));
    const twin = await client.getTwin();
    const desired = await desiredOf(twin);
    let { $version } = await desired.next();
    for (let n = 0; n < 20; n += 1) await setDesired({ n });
    for (let n = 0; n < 20; n += 1) {
      const patch = await desired.next();
      $version += 1;
      assert.deepStrictEqual(patch, { n, $version });
    }
    await Promise.all(Array.from({ length: 20 }, (_, n) => report(twin, { last: n })));
    const { reported } = (await hubRegistry.getModuleTwin(deviceId, moduleId)).responseBody.properties;
    assert.strictEqual(reported.last, 19);
    await client.close();
  },
  async 'a device and its connection state'() {
    const client = await open(deviceString(deviceId, deviceKey));
    const twin = await client.getTwin();
    await report(twin, { up: true });
    const state = async () => (await hubRegistry.getTwin(deviceId)).responseBody;
    assert.strictEqual((await state()).connectionState, 'Connected');
    assert.strictEqual((await state()).properties.reported.up, true);
    await client.close();
    assert.strictEqual((await state()).connectionState, 'Disconnected');
  },
  async 'telemetry of a device and of a module'() {
    for (const text of [deviceString(deviceId, deviceKey), moduleString(deviceId, moduleId, moduleKey)]) {
      const client = await open(text);
      const message = new Message(JSON.stringify({ temperature: 21.5 }));
      message.contentType = 'application/json';
      message.contentEncoding = 'utf-8';
      message.properties.add('level', 'info');
      await client.sendEvent(message);
      await client.close();
    }
  },
  async 'the twin size limit'() {
    const client = await open(moduleString(deviceId, moduleId, moduleKey));
    const twin = await client.getTwin();
    const big = Object.fromEntries(Array.from({ length: 9 }, (_, n) => [`k${n}`, 'x'.repeat(4000)]));
    await assert.rejects(report(twin, big), /'Properties.Reported' size should be less than 32768 bytes/);
    await assert.rejects(report(twin, { 'a b': 1 }), /has invalid characters/);
    // The links are still good.
    await report(twin, { fine: true });
    await client.close();
  },
  async 'a wrong key'() {
    await failure('UnauthorizedError', () => open(moduleString(deviceId, moduleId, key())));
  },
  async 'a module that is not there'() {
    // The package makes every refused token this error.
    const error = await failure('UnauthorizedError', () => open(moduleString(deviceId, 'nobody', moduleKey)));
    assert.match(error.message, /nobody/);
  },
  async 'a device that is deleted while connected loses its connection'() {
    const other = id('device');
    const { responseBody: device } = await hubRegistry.create({ deviceId: other });
    const client = await open(deviceString(other, device.authentication.symmetricKey.primaryKey));
    await client.getTwin();
    const lost = new Promise((done) => { client.on('disconnect', done); });
    await hubRegistry.delete(other);
    await within('disconnect', lost);
    await client.close().catch(() => {});
  },
});
