// azure-iot-device-http against a hub: telemetry, one by one and in a batch, and messages from the cloud.
'use strict';

const assert = require('node:assert');
const { EventHubConsumerClient, earliestEventPosition } = require('@azure/event-hubs');
const { Client, Message } = require('azure-iot-device');
const { Http } = require('azure-iot-device-http');
const service = require('azure-iothub');
const { arrivals, createDevice, eventHub, failure, hub, id, key, deviceString, run } = require('./support.js');

let device;

async function open(text) {
  const client = Client.fromConnectionString(text, Http);
  client.on('error', () => {});
  await client.open();
  return client;
}

function message(number) {
  const made = new Message(JSON.stringify({ number }));
  Object.assign(made, { messageId: `m-${number}`, contentType: 'application/json', contentEncoding: 'utf-8' });
  made.properties.add('level', 'info');
  return made;
}

run('http device', {
  async 'telemetry'() {
    device = await createDevice();
    const client = await open(device.text);
    await client.sendEvent(message(1));
    await client.sendEventBatch([message(2), message(3)]);
    await client.close();

    const events = arrivals();
    const reader = new EventHubConsumerClient('$Default', eventHub);
    const subscription = reader.subscribe({
      async processEvents(batch) {
        batch.filter((event) => event.systemProperties['iothub-connection-device-id'] === device.deviceId)
          .forEach(events.push);
      },
      async processError(error) {
        console.error(error);
        process.exit(1);
      },
    }, { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1 });
    for (const number of [1, 2, 3]) {
      const event = await events.next();
      assert.deepStrictEqual(event.body, { number });
      // In a batch the package leaves out all system properties.
      assert.strictEqual(event.messageId, number === 1 ? 'm-1' : undefined);
      assert.deepStrictEqual(event.properties, { level: 'info' });
    }
    await subscription.close();
    await reader.close();
  },
  async 'messages: completed, rejected, abandoned'() {
    const sender = service.Client.fromConnectionString(hub);
    const send = (messageId) =>
      sender.send(device.deviceId, Object.assign(new Message(`it is ${messageId}`), { messageId }));
    const client = await open(device.text);
    const messages = arrivals();
    await send('m-1');
    await send('m-2');
    client.on('message', messages.push);
    const first = await messages.next();
    assert.deepStrictEqual([first.messageId, first.data.toString()], ['m-1', 'it is m-1']);
    await client.complete(first);
    const second = await messages.next();
    assert.strictEqual(second.messageId, 'm-2');
    await client.abandon(second);
    const again = await messages.next();
    assert.strictEqual(again.messageId, 'm-2');
    await client.reject(again);
    await send('m-3');
    const third = await messages.next();
    assert.strictEqual(third.messageId, 'm-3');
    await client.complete(third);
    await client.close();
    await sender.close();
  },
  async 'a wrong key, and a device that is not there'() {
    const wrong = await open(deviceString(device.deviceId, key()));
    await failure('UnauthorizedError', () => wrong.sendEvent(message(4)));
    const nobody = await open(deviceString(id('nobody'), key()));
    await failure('DeviceNotFoundError', () => nobody.sendEvent(message(5)));
  },
});
