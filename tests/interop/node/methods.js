// Direct methods: azure-iothub invokes what azure-iot-device answers, on devices and modules.
'use strict';

const assert = require('node:assert');
const { Client, ModuleClient } = require('azure-iot-device');
const service = require('azure-iothub');
const {
  arrivals, createDevice, createModule, deviceTransport, failure, hub, id, promise, run, serviceTransport,
} = require('./support.js');

const invoker = service.Client.fromConnectionString(hub, serviceTransport);
let device;
let moduleText;

// Seconds that the hub may wait for a listener that is about to come: `onDeviceMethod` does not say when it listens.
const soon = { connectTimeoutInSeconds: 30, responseTimeoutInSeconds: 30 };
const invoke = async (target, methodName, payload, more = soon) =>
  (await invoker.invokeDeviceMethod(...target, { methodName, payload, ...more })).result;

// A client with a method `echo` that answers 200 and what it got.
async function open(text, Kind = Client) {
  const client = Kind.fromConnectionString(text, deviceTransport);
  client.on('error', () => {});
  await client.open();
  const on = Kind === ModuleClient ? 'onMethod' : 'onDeviceMethod';
  client[on]('echo', (request, response) => response.send(200, request.payload));
  client[on]('fail', (request, response) => response.send(418, { why: 'teapot' }));
  client[on]('empty', (request, response) => response.send(204));
  return client;
}

async function answers(target) {
  const payloads = [{ a: [1, 2.5, null, 'ü'] }, [], {}, 'text', 42, true, 'x'.repeat(100_000)];
  for (const payload of payloads) {
    assert.deepStrictEqual(await invoke(target, 'echo', payload), { status: 200, payload });
  }
  // Without a payload it is null.
  assert.deepStrictEqual(await invoke(target, 'echo'), { status: 200, payload: null });
  assert.deepStrictEqual(await invoke(target, 'fail', 1), { status: 418, payload: { why: 'teapot' } });
  assert.strictEqual((await invoke(target, 'empty', 1)).status, 204);
  const many = await Promise.all(Array.from({ length: 20 }, (_, n) => invoke(target, 'echo', { n })));
  assert.deepStrictEqual(many.map((answer) => answer.payload.n), Array.from({ length: 20 }, (_, n) => n));
}

// The hub's error code: the body is an error in an error (rest.md 2.1).
const refusal = (error) => JSON.parse(JSON.parse(error.responseBody).Message).errorCode;
const refused = (target, code, more) => assert.rejects(invoke(target, 'echo', 1, more), (error) => {
  assert.strictEqual(refusal(error), code, error.stack);
  return true;
});

run('methods', {
  async 'a device'() {
    device = await createDevice();
    const client = await open(device.text);
    await answers([device.deviceId]);
    await client.close();
  },
  async 'a module'() {
    moduleText = await createModule(device.deviceId, 'm');
    const client = await open(moduleText, ModuleClient);
    await answers([device.deviceId, 'm']);
    await client.close();
  },
  async 'one that comes while the hub waits for it'() {
    const [answer, client] = await Promise.all([invoke([device.deviceId], 'echo', 'late'), open(device.text)]);
    assert.deepStrictEqual(answer, { status: 200, payload: 'late' });
    await client.close();
  },
  async 'nobody there: unknown and offline are told apart'() {
    await refused([id('nobody')], 404001);
    await refused([device.deviceId, 'nobody'], 404010);
    const now = { connectTimeoutInSeconds: 0 };
    await refused([device.deviceId], 404103, now);
    await refused([device.deviceId, 'm'], 404103, now);
  },
  async 'a device that does not answer'() {
    const client = Client.fromConnectionString(device.text, deviceTransport);
    await client.open();
    const called = arrivals();
    client.onDeviceMethod('echo', (request, response) => called.push(response));
    await Promise.all([called.next(), refused([device.deviceId], 504101, { ...soon, responseTimeoutInSeconds: 5 })]);
    await client.close();
  },
  async 'a device that leaves during the call'() {
    const client = Client.fromConnectionString(device.text, deviceTransport);
    await client.open();
    const called = arrivals();
    client.onDeviceMethod('echo', called.push);
    await Promise.all([called.next().then(() => client.close()), refused([device.deviceId], 404104)]);
  },
  async 'timeouts out of range'() {
    const call = () => invoke([device.deviceId], 'echo', 1, { responseTimeoutInSeconds: 301 });
    const error = await failure('ArgumentError', call);
    assert.strictEqual(error.response.statusCode, 400);
  },
});
