// @azure/event-hubs on the built-in endpoint: what azure-iot-device sent is read there, unchanged.
'use strict';

const assert = require('node:assert');
const { EventHubConsumerClient, earliestEventPosition, latestEventPosition } = require('@azure/event-hubs');
const { Client, Message, ModuleClient } = require('azure-iot-device');
const WebSocket = require('ws');
const { arrivals, createDevice, createModule, deviceTransport, eventHub, id, run, websocket } = require('./support.js');

const options = websocket ? { webSocketOptions: { webSocket: WebSocket } } : {};
const reader = new EventHubConsumerClient('$Default', eventHub, options);
let device;
let sent;

// The events of this script's device as they come, from these positions.
function follow(options) {
  const events = arrivals();
  const subscription = reader.subscribe({
    async processEvents(batch) {
      batch.filter((event) => event.systemProperties['iothub-connection-device-id'] === device.deviceId)
        .forEach(events.push);
    },
    async processError(error) {
      console.error(error);
      process.exit(1);
    },
  }, { maxWaitTimeInSeconds: 1, ...options });
  return { next: events.next, close: () => subscription.close() };
}

async function send(text, bodies, Kind = Client) {
  const client = Kind.fromConnectionString(text, deviceTransport);
  await client.open();
  for (const body of bodies) {
    const message = new Message(JSON.stringify(body));
    Object.assign(message, { contentType: 'application/json', contentEncoding: 'utf-8', messageId: id('message') });
    message.properties.add('level', 'info');
    await client.sendEvent(message);
  }
  await client.close();
}

run('events', {
  async 'the endpoint tells about itself'() {
    const properties = await reader.getEventHubProperties();
    assert.strictEqual(properties.name, reader.eventHubName);
    assert.ok(properties.partitionIds.length > 0);
    assert.deepStrictEqual(await reader.getPartitionIds(), properties.partitionIds);
    const partition = await reader.getPartitionProperties(properties.partitionIds[0]);
    assert.strictEqual(partition.eventHubName, reader.eventHubName);
    assert.strictEqual(partition.partitionId, properties.partitionIds[0]);
  },
  async 'events from the beginning, whole and in order'() {
    device = await createDevice();
    sent = Array.from({ length: 20 }, (_, number) => ({ number, text: 'ü' }));
    await send(device.text, sent);
    const events = follow({ startPosition: earliestEventPosition });
    const got = [];
    for (const body of sent) {
      const event = await events.next();
      assert.deepStrictEqual(event.body, body);
      got.push(event);
    }
    await events.close();
    const [first] = got;
    assert.deepStrictEqual(first.properties, { level: 'info' });
    assert.strictEqual(first.contentType, 'application/json');
    assert.match(first.messageId, /^message-/);
    const system = first.systemProperties;
    assert.strictEqual(system['iothub-message-source'], 'Telemetry');
    assert.strictEqual(system['iothub-connection-device-id'], device.deviceId);
    assert.ok(!('iothub-connection-module-id' in system));
    assert.deepStrictEqual(
      JSON.parse(system['iothub-connection-auth-method']),
      { scope: 'device', type: 'sas', issuer: 'iothub' },
    );
    assert.ok(system['iothub-connection-auth-generation-id']);
    assert.ok(first.enqueuedTimeUtc instanceof Date);
    got.reduce((before, event) => {
      assert.ok(event.sequenceNumber > before.sequenceNumber && Number(event.offset) > Number(before.offset));
      return event;
    });
    sent = got;
  },
  async 'from a sequence number, an offset, a time'() {
    const partition = await partitionOf(device.deviceId);
    const eleventh = sent[10];
    for (const [position, expected] of [
      [{ sequenceNumber: eleventh.sequenceNumber, isInclusive: true }, 10],
      [{ sequenceNumber: eleventh.sequenceNumber }, 11],
      [{ offset: eleventh.offset, isInclusive: true }, 10],
      [{ offset: eleventh.offset }, 11],
      [{ enqueuedOn: new Date(sent[0].enqueuedTimeUtc.getTime() - 1) }, 0],
    ]) {
      const events = follow({ startPosition: { [partition]: position } });
      assert.strictEqual((await events.next()).body.number, expected, JSON.stringify(position));
      await events.close();
    }
  },
  async 'only what comes from now on'() {
    const events = follow({ startPosition: latestEventPosition });
    // Nothing says when the reader is in place: it is when something new has come.
    let first;
    const next = events.next().then((event) => { first = event; });
    for (let number = 100; !first; number += 1) await send(device.text, [{ number }]);
    await next;
    assert.ok(first.body.number >= 100);
    await events.close();
  },
  async 'events of a module'() {
    const module = await createModule(device.deviceId, 'm');
    await send(module, [{ from: 'module' }], ModuleClient);
    const events = follow({ startPosition: earliestEventPosition });
    let event;
    do event = await events.next(); while (event.body.from !== 'module');
    assert.strictEqual(event.systemProperties['iothub-connection-module-id'], 'm');
    assert.strictEqual(JSON.parse(event.systemProperties['iothub-connection-auth-method']).scope, 'module');
    await events.close();
  },
  async 'close'() {
    await reader.close();
  },
});

// The partition that has the events of a device: only one does.
async function partitionOf(deviceId) {
  const found = new Set();
  let tell;
  const enough = new Promise((done) => { tell = done; });
  const subscription = reader.subscribe({
    async processEvents(batch, { partitionId }) {
      const own = batch.filter((event) => event.systemProperties['iothub-connection-device-id'] === deviceId);
      if (own.length) found.add(partitionId);
      if (own.some((event) => event.body.number === 19)) tell();
    },
    async processError(error) {
      console.error(error);
      process.exit(1);
    },
  }, { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1 });
  await enough;
  await subscription.close();
  assert.strictEqual(found.size, 1);
  return [...found][0];
}
