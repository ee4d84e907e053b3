// azure-iothub's configurations against a hub: kept, targeted, and applied to one edge device.
'use strict';

const assert = require('node:assert');
const { createDevice, failure, id, registry, run } = require('./support.js');

const hub = registry();
// Ids of configurations are lower case.
const configurationId = id('configuration');
const site = id('site');
let configuration;
let target;
let other;

run('configurations', {
  // Before the configuration: the hub looks at all devices when it comes, and then every five minutes.
  async 'a device that it will target, and another'() {
    [target, other] = [await createDevice('target'), await createDevice('other')];
    await hub.updateTwin(target.deviceId, { tags: { site } }, '*');
  },
  async 'add'() {
    ({ responseBody: configuration } = await hub.addConfiguration({
      id: configurationId,
      labels: { owner: 'me' },
      content: { deviceContent: { 'properties.desired.camera': { rate: 5 } } },
      targetCondition: `tags.site = '${site}'`,
      priority: 7,
      metrics: { queries: { done: `SELECT deviceId FROM devices WHERE properties.reported.camera = 'done'` } },
    }));
    assert.strictEqual(configuration.id, configurationId);
    assert.strictEqual(configuration.schemaVersion, '1.0');
    assert.deepStrictEqual(configuration.labels, { owner: 'me' });
    assert.strictEqual(configuration.priority, 7);
    assert.ok(configuration.etag && !Number.isNaN(Date.parse(configuration.createdTimeUtc)));
    const error = await failure('DeviceAlreadyExistsError', () => hub.addConfiguration({ ...configuration }));
    assert.match(error.responseBody, /ConfigurationAlreadyExists/);
  },
  async 'get, list'() {
    const { responseBody: one } = await hub.getConfiguration(configurationId);
    assert.deepStrictEqual(one.content, configuration.content);
    const { responseBody: all } = await hub.getConfigurations();
    assert.ok(all.some((other) => other.id === configurationId));
    const error = await failure('Error', () => hub.getConfiguration(id('nothing')));
    assert.strictEqual(error.response.statusCode, 404);
  },
  async 'it reaches the devices that it targets, and only those'() {
    const camera = async (deviceId) => (await hub.getTwin(deviceId)).responseBody.properties.desired.camera;
    assert.deepStrictEqual(await camera(target.deviceId), { rate: 5 });
    assert.strictEqual(await camera(other.deviceId), undefined);
    const { responseBody: twin } = await hub.getTwin(target.deviceId);
    assert.deepStrictEqual(twin.configurations, { [configurationId]: { status: 'Applied' } });
    const { responseBody: seen } = await hub.getConfiguration(configurationId);
    assert.deepStrictEqual(seen.systemMetrics.results, { targetedCount: 1, appliedCount: 1 });
  },
  async 'update, not the content, not with an old etag'() {
    const changed = { ...configuration, labels: { owner: 'you' }, priority: 9 };
    const { responseBody: updated } = await hub.updateConfiguration(changed, false);
    assert.deepStrictEqual([updated.labels, updated.priority], [{ owner: 'you' }, 9]);
    assert.notStrictEqual(updated.etag, configuration.etag);
    const error = await failure('InvalidEtagError', () => hub.updateConfiguration(changed, false));
    assert.strictEqual(error.response.statusCode, 412);
    const content = { deviceContent: { 'properties.desired.camera': { rate: 6 } } };
    const refusal = await failure('ArgumentError', () => hub.updateConfiguration({ ...updated, content }, true));
    assert.match(refusal.responseBody, /CannotModifyImmutableConfigurationContent/);
  },
  async 'remove'() {
    await hub.removeConfiguration(configurationId);
    await failure('Error', () => hub.getConfiguration(configurationId));
  },
  async 'apply content to one edge device'() {
    const { deviceId } = await createDevice('edge', { capabilities: { iotEdge: true } });
    const desired = { schemaVersion: '1.1', modules: { filter: { type: 'docker' } } };
    await hub.applyConfigurationContentOnDevice(deviceId, {
      modulesContent: {
        $edgeAgent: { 'properties.desired': desired },
        filter: { 'properties.desired.threshold': 25 },
      },
    });
    const { responseBody: modules } = await hub.getModulesOnDevice(deviceId);
    assert.deepStrictEqual(modules.map((module) => module.moduleId).sort(), ['$edgeAgent', '$edgeHub', 'filter']);
    const { responseBody: agent } = await hub.getModuleTwin(deviceId, '$edgeAgent');
    assert.deepStrictEqual(agent.properties.desired.modules, desired.modules);
    const { responseBody: filter } = await hub.getModuleTwin(deviceId, 'filter');
    assert.strictEqual(filter.properties.desired.threshold, 25);
  },
});
