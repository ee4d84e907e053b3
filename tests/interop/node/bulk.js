// azure-iothub's bulk operations against a hub.
'use strict';

const assert = require('node:assert');
const { failure, id, key, registry, run } = require('./support.js');

const hub = registry();
const keys = () => ({ symmetricKey: { primaryKey: key(), secondaryKey: key() } });
const fleet = Array.from({ length: 100 }, () => ({ deviceId: id('bulk'), authentication: keys() }));
const codes = (error) =>
  JSON.parse(error.responseBody).errors.map(({ deviceId, errorCode }) => [deviceId, errorCode]);

run('bulk', {
  async 'a hundred at once'() {
    const { responseBody: result, httpResponse } = await hub.addDevices(fleet);
    assert.strictEqual(httpResponse.statusCode, 200);
    assert.deepStrictEqual([result.isSuccessful, result.errors], [true, []]);
    for (const { deviceId, authentication } of [fleet[0], fleet[99]]) {
      const { responseBody: device } = await hub.get(deviceId);
      assert.deepStrictEqual(device.authentication.symmetricKey, authentication.symmetricKey);
      assert.strictEqual(device.status, 'enabled');
    }
  },
  async 'some exist, the others are created'() {
    const extra = { deviceId: id('bulk'), authentication: keys() };
    // The package makes every 400 this error.
    const error = await failure('ArgumentError', () => hub.addDevices([fleet[0], extra, fleet[1]]));
    assert.deepStrictEqual(codes(error).sort(), [[fleet[0].deviceId, 409001], [fleet[1].deviceId, 409001]].sort());
    assert.strictEqual((await hub.get(extra.deviceId)).responseBody.deviceId, extra.deviceId);
    fleet.push(extra);
  },
  async 'update, by force and by etag'() {
    const disabled = fleet.slice(0, 3).map((device) => ({ ...device, status: 'disabled' }));
    await hub.updateDevices(disabled, true);
    const { responseBody: device } = await hub.get(fleet[0].deviceId);
    assert.strictEqual(device.status, 'disabled');
    await hub.updateDevices([{ ...fleet[0], status: 'enabled', etag: device.etag }], false);
    assert.strictEqual((await hub.get(fleet[0].deviceId)).responseBody.status, 'enabled');
    const stale = [{ ...fleet[0], status: 'disabled', etag: device.etag }];
    const error = await failure('ArgumentError', () => hub.updateDevices(stale, false));
    assert.deepStrictEqual(codes(error), [[fleet[0].deviceId, 412001]]);
    assert.strictEqual((await hub.get(fleet[0].deviceId)).responseBody.status, 'enabled');
  },
  async 'one id twice'() {
    const error = await failure('ArgumentError', () => hub.updateDevices([fleet[0], fleet[0]], true));
    assert.match(error.responseBody, /DeviceDefinedMultipleTimes/);
  },
  async 'remove them all'() {
    const [last] = fleet.slice(100);
    await hub.removeDevices(fleet.slice(0, 100), true);
    await failure('DeviceNotFoundError', () => hub.get(fleet[0].deviceId));
    const { responseBody: device } = await hub.get(last.deviceId);
    await hub.removeDevices([{ deviceId: last.deviceId, etag: device.etag }], false);
    await failure('DeviceNotFoundError', () => hub.get(last.deviceId));
    const error = await failure('ArgumentError', () => hub.removeDevices([last], true));
    assert.deepStrictEqual(codes(error), [[last.deviceId, 404001]]);
  },
});
