// Cloud-to-device messages from azure-iothub to azure-iot-device: what arrives, how it is settled, what feedback says.
// Alone on its hub with that: all services share one queue of feedback.
'use strict';

const assert = require('node:assert');
const { Client, Message } = require('azure-iot-device');
const service = require('azure-iothub');
const {
  arrivals, createDevice, deviceTransport, failure, hub, id, promise, registry, run, serviceTransport,
} = require('./support.js');

const sender = service.Client.fromConnectionString(hub, serviceTransport);
const feedback = arrivals();
let receiver;
let device;
let client;
let messages;

async function listen() {
  client = Client.fromConnectionString(device.text, deviceTransport);
  client.on('error', () => {});
  await client.open();
  messages = arrivals();
  client.on('message', messages.push);
}

const send = (text, more = {}) => sender.send(device.deviceId, Object.assign(new Message(text), { ack: 'full' }, more));

// The one record of the next feedback, which must be about this message.
async function told(messageId, statusCode) {
  const notice = await feedback.next();
  const records = JSON.parse(notice.data.toString());
  assert.deepStrictEqual(
    records.map((record) => [record.originalMessageId, record.statusCode, record.description, record.deviceId]),
    [[messageId, statusCode, statusCode, device.deviceId]],
  );
  assert.ok(!Number.isNaN(Date.parse(records[0].enqueuedTimeUtc)) && records[0].deviceGenerationId);
  // The package has settled it before anybody sees it: this changes nothing, nor does its `abandon`.
  await receiver.complete(notice);
}

run('messages', {
  async 'open'() {
    device = await createDevice();
    await sender.open();
    receiver = await promise((done) => sender.getFeedbackReceiver(done));
    receiver.on('message', feedback.push);
  },
  async 'one that waits for the device, with all that it carries'() {
    const message = new Message(Buffer.from([0, 1, 254, 255]));
    Object.assign(message, {
      messageId: 'm-1', correlationId: 'c-1', userId: 'me', ack: 'full',
      contentType: 'application/octet-stream', contentEncoding: 'utf-8',
    });
    message.properties.add('level', 'high');
    message.properties.add('ü', 'ß');
    await sender.send(device.deviceId, message);
    await listen();
    const got = await messages.next();
    assert.deepStrictEqual([...got.data], [0, 1, 254, 255]);
    assert.deepStrictEqual(
      [got.messageId, got.correlationId, got.contentType, got.contentEncoding],
      ['m-1', 'c-1', 'application/octet-stream', 'utf-8'],
    );
    assert.strictEqual(got.to, `/devices/${device.deviceId}/messages/devicebound`);
    assert.strictEqual(got.properties.getValue('level'), 'high');
    assert.strictEqual(got.properties.getValue('ü'), 'ß');
    await client.complete(got);
    await told('m-1', 'Success');
  },
  async 'reject'() {
    await send('no', { messageId: 'm-2' });
    await client.reject(await messages.next());
    await told('m-2', 'Rejected');
  },
  async 'abandon until the hub gives up'() {
    await send('again', { messageId: 'm-3' });
    for (let count = 0; count < 10; count += 1) await client.abandon(await messages.next());
    await told('m-3', 'DeliveryCountExceeded');
  },
  async 'feedback only as asked for'() {
    await send('quiet', { messageId: 'm-4', ack: 'none' });
    await client.complete(await messages.next());
    await send('positive', { messageId: 'm-5', ack: 'positive' });
    await client.reject(await messages.next());
    await send('negative', { messageId: 'm-6', ack: 'negative' });
    await client.complete(await messages.next());
    // What comes next is about what is sent next.
    await send('negative', { messageId: 'm-7', ack: 'negative' });
    await client.reject(await messages.next());
    await told('m-7', 'Rejected');
  },
  async 'thirty in order'() {
    const texts = Array.from({ length: 30 }, (_, n) => `number ${n}`);
    for (const text of texts) await send(text, { ack: 'none' });
    for (const text of texts) {
      const got = await messages.next();
      assert.strictEqual(got.data.toString(), text);
      await client.complete(got);
    }
  },
  async 'what was not settled comes again to the next connection'() {
    await send('left', { messageId: 'm-9' });
    await messages.next();
    await client.close();
    await listen();
    const got = await messages.next();
    assert.strictEqual(got.messageId, 'm-9');
    await client.complete(got);
    await told('m-9', 'Success');
    await client.close();
  },
  async 'one that expires'() {
    // The package takes this as it is, and needs a number (amqp.md 4.1).
    await send('stale', { messageId: 'm-10', expiryTimeUtc: Date.now() + 1000 });
    await told('m-10', 'Expired');
  },
  async 'the fifty-first'() {
    for (let n = 0; n < 50; n += 1) await send(`${n}`, { ack: 'none' });
    await failure('DeviceMaximumQueueDepthExceededError', () => send('one too many'));
    const { responseBody: identity } = await registry().get(device.deviceId);
    assert.strictEqual(Number(identity.cloudToDeviceMessageCount), 50);
  },
  async 'a device that is not there, and a message too large'() {
    await failure('DeviceNotFoundError', () => sender.send(id('nobody'), new Message('x')));
    await failure('MessageTooLargeError', () => send('x'.repeat(65 * 1024)));
    // The link is still good.
    const other = await createDevice();
    await sender.send(other.deviceId, new Message('fine'));
  },
  async 'close'() {
    await sender.close();
  },
});
