// azure-iothub's Registry against a hub: identities, keys, twins, refusals.
'use strict';

const assert = require('node:assert');
const { failure, hostName, hub, id, key, registry, run } = require('./support.js');

const deviceId = id('device');
const symmetricKey = { primaryKey: key(), secondaryKey: key() };
const hubRegistry = registry();

run('registry', {
  async 'create a device with given keys'() {
    const description = { deviceId, status: 'disabled', authentication: { type: 'sas', symmetricKey } };
    const { responseBody: device, httpResponse } = await hubRegistry.create(description);
    assert.strictEqual(httpResponse.statusCode, 200);
    assert.strictEqual(device.deviceId, deviceId);
    assert.strictEqual(device.status, 'disabled');
    assert.strictEqual(device.connectionState, 'Disconnected');
    assert.deepStrictEqual(device.authentication.symmetricKey, symmetricKey);
  },
  async 'create it again'() {
    const error = await failure('DeviceAlreadyExistsError', () => hubRegistry.create({ deviceId }));
    assert.strictEqual(error.response.statusCode, 409);
  },
  async 'create a device whose keys the hub makes'() {
    const other = id('device');
    const { responseBody: device } = await hubRegistry.create({ deviceId: other });
    for (const made of Object.values(device.authentication.symmetricKey)) {
      assert.strictEqual(Buffer.from(made, 'base64').length, 32);
    }
    await hubRegistry.delete(other);
    await failure('DeviceNotFoundError', () => hubRegistry.get(other));
  },
  async 'get and update'() {
    const { responseBody: device } = await hubRegistry.get(deviceId);
    assert.deepStrictEqual(device.authentication.symmetricKey, symmetricKey);
    const { responseBody: updated } = await hubRegistry.update({
      deviceId, status: 'enabled', authentication: { type: 'sas', symmetricKey },
    });
    assert.strictEqual(updated.status, 'enabled');
    assert.notStrictEqual(updated.etag, device.etag);
    assert.strictEqual((await hubRegistry.get(deviceId)).responseBody.status, 'enabled');
  },
  async 'list'() {
    const { responseBody: devices } = await hubRegistry.list();
    const ids = devices.map((device) => device.deviceId);
    assert.ok(ids.includes(deviceId), ids.join());
  },
  async 'a device that is not there'() {
    await failure('DeviceNotFoundError', () => hubRegistry.get(id('nobody')));
    await failure('DeviceNotFoundError', () => hubRegistry.update({ deviceId: id('nobody') }));
  },
  async 'ids with every allowed character'() {
    const odd = `${id('odd')}-:.+%_#*?!(),=@$'`;
    const { responseBody: device } = await hubRegistry.create({ deviceId: odd });
    assert.strictEqual(device.deviceId, odd);
    assert.strictEqual((await hubRegistry.get(odd)).responseBody.deviceId, odd);
    await hubRegistry.addModule({ deviceId: odd, moduleId: '$edgeHub' });
    assert.strictEqual((await hubRegistry.getModule(odd, '$edgeHub')).responseBody.moduleId, '$edgeHub');
    assert.strictEqual((await hubRegistry.getModuleTwin(odd, '$edgeHub')).responseBody.moduleId, '$edgeHub');
    await hubRegistry.delete(odd);
  },
  async 'add a module without authentication, get it with its key'() {
    await hubRegistry.addModule({ deviceId, moduleId: 'm1' });
    const { responseBody: module } = await hubRegistry.getModule(deviceId, 'm1');
    assert.strictEqual(module.moduleId, 'm1');
    assert.strictEqual(module.deviceId, deviceId);
    assert.strictEqual(module.authentication.type, 'sas');
    assert.strictEqual(Buffer.from(module.authentication.symmetricKey.primaryKey, 'base64').length, 32);
    // By status, not by the word in the body.
    await failure('DeviceAlreadyExistsError', () => hubRegistry.addModule({ deviceId, moduleId: 'm1' }));
  },
  async 'modules of a device'() {
    await hubRegistry.addModule({ deviceId, moduleId: 'm2' });
    const { responseBody: modules } = await hubRegistry.getModulesOnDevice(deviceId);
    assert.deepStrictEqual(modules.map((module) => module.moduleId).sort(), ['m1', 'm2']);
    await hubRegistry.removeModule(deviceId, 'm2');
    await failure('Error', () => hubRegistry.getModule(deviceId, 'm2'));
  },
  async 'a module that is not there'() {
    const error = await failure('Error', () => hubRegistry.getModule(deviceId, 'nobody'));
    assert.strictEqual(error.response.statusCode, 404);
    assert.match(error.responseBody, /ModuleNotFound/);
  },
  async 'a device twin with its etag'() {
    const { responseBody: twin } = await hubRegistry.getTwin(deviceId);
    assert.strictEqual(twin.properties.desired.$version, 1);
    // `update` sends the etag that the object has, and takes over what comes back.
    const { etag } = twin;
    await twin.update({ tags: { site: 'north' }, properties: { desired: { rate: 5 } } });
    assert.notStrictEqual(twin.etag, etag);
    assert.strictEqual(twin.properties.desired.$version, 2);
    assert.deepStrictEqual(twin.tags, { site: 'north' });
    await twin.update({ properties: { desired: { rate: null, other: [1, 'a'] } } });
    assert.strictEqual(twin.properties.desired.$version, 3);
    assert.deepStrictEqual(twin.properties.desired.other, [1, 'a']);
    assert.ok(!('rate' in twin.properties.desired));
    const stale = () => hubRegistry.updateTwin(deviceId, { tags: { site: 'south' } }, etag);
    const error = await failure('InvalidEtagError', stale);
    assert.strictEqual(error.response.statusCode, 412);
    await hubRegistry.updateTwin(deviceId, { tags: { site: 'south' } }, '*');
    assert.deepStrictEqual((await hubRegistry.getTwin(deviceId)).responseBody.tags, { site: 'south' });
  },
  async 'a module twin'() {
    await hubRegistry.updateModuleTwin(deviceId, 'm1', { properties: { desired: { a: { b: 1 } } } }, '*');
    const { responseBody: twin } = await hubRegistry.getModuleTwin(deviceId, 'm1');
    assert.strictEqual(twin.moduleId, 'm1');
    assert.deepStrictEqual(twin.properties.desired.a, { b: 1 });
    assert.strictEqual(twin.properties.desired.$version, 2);
  },
  async 'a twin key with a dot'() {
    const error = await failure('ArgumentError', () =>
      hubRegistry.updateTwin(deviceId, { properties: { desired: { 'a.b': 1 } } }, '*'));
    assert.match(error.message, /invalid characters/);
  },
  async 'a wrong policy key'() {
    const wrong = registry(`HostName=${hostName()};SharedAccessKeyName=iothubowner;SharedAccessKey=${key()}`);
    const error = await failure('UnauthorizedError', () => wrong.get(deviceId));
    assert.strictEqual(error.response.statusCode, 401);
  },
  async 'an unknown policy'() {
    const wrong = registry(hub.replace('SharedAccessKeyName=iothubowner', 'SharedAccessKeyName=nobody'));
    await failure('UnauthorizedError', () => wrong.list());
  },
  async 'statistics'() {
    const { responseBody: statistics } = await hubRegistry.getRegistryStatistics();
    assert.ok(statistics.totalDeviceCount >= 1, JSON.stringify(statistics));
  },
  async 'delete takes the modules along'() {
    await hubRegistry.delete(deviceId);
    await failure('DeviceNotFoundError', () => hubRegistry.get(deviceId));
    await failure('DeviceNotFoundError', () => hubRegistry.getModule(deviceId, 'm1'));
  },
});
