// Devices on azure-iot-device-amqp that show a certificate instead of a token.
'use strict';

const assert = require('node:assert');
const { Client, Message } = require('azure-iot-device');
const { certificate } = require('./certificate.js');
const { arrivals, createDevice, deviceTransport, failure, hostName, hub, id, promise, registry, run } = require('./support.js');

async function open(deviceId, { key, cert }) {
  const client = Client.fromConnectionString(`HostName=${hostName()};DeviceId=${deviceId};x509=true`, deviceTransport);
  client.on('error', () => {});
  await client.setOptions({ key, cert });
  await client.open();
  return client;
}

const pinned = (primaryThumbprint, secondaryThumbprint) =>
  ({ authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint, secondaryThumbprint } } });

async function works(deviceId, own) {
  const client = await open(deviceId, own);
  const twin = await client.getTwin();
  await promise((done) => twin.properties.reported.update({ by: 'certificate' }, done));
  await client.sendEvent(new Message('hello'));
  const { responseBody: seen } = await registry().getTwin(deviceId);
  assert.strictEqual(seen.properties.reported.by, 'certificate');
  assert.strictEqual(seen.connectionState, 'Connected');
  await client.close();
}

async function refused(deviceId, own) {
  const client = await open(deviceId, own);
  await failure('UnauthorizedError', () => client.getTwin());
  // No `close`: the package does not come back from it after this.
}

const deviceId = id('pinned');
const [first, second] = [certificate('first'), certificate('second')];

run('x509', {
  async 'by either thumbprint'() {
    await registry().create({ deviceId, ...pinned(first.sha1, second.sha1) });
    await works(deviceId, first);
    await works(deviceId, second);
  },
  async 'by SHA-256 in lower case'() {
    const other = id('pinned');
    const [primary, secondary] = [first, second].map((own) => own.sha256.toLowerCase());
    await registry().create({ deviceId: other, ...pinned(primary, secondary) });
    await works(other, second);
  },
  async 'a method, on a connection that a certificate opened'() {
    const client = await open(deviceId, first);
    const called = arrivals();
    client.onDeviceMethod('ping', (request, response) => {
      called.push(request.payload);
      response.send(200, 'pong');
    });
    const invoker = require('azure-iothub').Client.fromConnectionString(hub);
    const params = { methodName: 'ping', payload: 1, connectTimeoutInSeconds: 30 };
    assert.strictEqual((await invoker.invokeDeviceMethod(deviceId, params)).result.payload, 'pong');
    assert.strictEqual(await called.next(), 1);
    await client.close();
  },
  // Opening says nothing yet: the first link does.
  async 'not with a certificate that nobody told the hub of'() {
    await refused(deviceId, certificate('stranger'));
  },
  async 'not as a device that has keys'() {
    const other = await createDevice();
    await refused(other.deviceId, first);
  },
});
