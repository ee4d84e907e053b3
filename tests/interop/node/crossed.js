// Half and half: this repository's service half with devices on Microsoft's packages, and the other way round. Ours are
// the repository's examples, started as a user would start them. Alone on its hub with feedback, which all services
// share.
'use strict';

const assert = require('node:assert');
const { EventHubConsumerClient, earliestEventPosition } = require('@azure/event-hubs');
const { Message } = require('azure-iot-device');
const service = require('azure-iothub');
const { example, nodeClient, nodeScript } = require('./program.js');
const {
  arrivals, createDevice, eventHub, hub, id, promise, registry, run, serviceTransport, websocket,
} = require('./support.js');

const hubRegistry = registry();
const moduleId = 'module';
const sender = service.Client.fromConnectionString(hub, serviceTransport);
// Our devices go the same way as theirs.
const device = (name, text, ...args) =>
  example(name, websocket ? [...args, '--websocket'] : args, { IOTHUB_DEVICE_CONNECTION_STRING: text });

const setDesired = (deviceId, desired) =>
  hubRegistry.updateModuleTwin(deviceId, moduleId, { properties: { desired } }, '*');
const twinOf = async (deviceId) => (await hubRegistry.getModuleTwin(deviceId, moduleId)).responseBody;

run('crossed', {
  async 'Rust registry, Node module'() {
    const deviceId = id('device');
    const made = example('create_identities', ['--device-id', deviceId, '--module-id', moduleId]);
    const deviceString = await made.expect(/^device connection string = "(HostName=localhost;.*)"$/);
    const moduleString = await made.expect(/^module connection string = "(HostName=localhost;.*)"$/);
    await made.ended();
    assert.ok(deviceString.includes(`DeviceId=${deviceId}`) && !deviceString.includes('ModuleId'));

    const module = await nodeClient(moduleString);
    module.command({ twin: true });
    await module.says({ twin: { desired: { $version: 1 }, reported: { $version: 1 } } });
    module.command({ desired: true });
    await module.says({ desired: { $version: 1 } });
    await module.says({ listening: true });
    await setDesired(deviceId, { rate: 7 });
    await module.says({ desired: { rate: 7, $version: 2 } });
    module.command({ report: { rate: 7 } });
    await module.says({ reported: true });
    assert.strictEqual((await twinOf(deviceId)).properties.reported.rate, 7);
    module.command({ close: true });
    await module.ended();
  },
  async 'Node registry, Rust module'() {
    const deviceId = id('device');
    const made = nodeScript('node_registry.js', [deviceId, moduleId]);
    const { module: moduleString } = JSON.parse(await made.line());
    await made.ended();

    const module = example('update_module_twin', [], { IOTHUB_MODULE_CONNECTION_STRING: moduleString });
    await module.expect(/^client opened$/);
    await module.expect(/^twin contents:$/);
    await module.says({ desired: { $version: 1 }, reported: { $version: 1 } });
    await module.expect(/^new desired properties received:$/);
    await module.says({ $version: 1 });
    await module.expect(/^twin state reported$/);
    const { reported } = (await twinOf(deviceId)).properties;
    assert.strictEqual(reported.firmwareVersion, '1.2.1');
    assert.deepStrictEqual(reported.weather, { temperature: 72, humidity: 17 });
    await setDesired(deviceId, { firmware: { version: '1.3' } });
    await module.expect(/^new desired properties received:$/);
    await module.says({ firmware: { version: '1.3' }, $version: 2 });
    await module.interrupted();
    assert.strictEqual((await twinOf(deviceId)).connectionState, 'Disconnected');
  },
  async 'Node invokes methods of a Rust device'() {
    const { deviceId, text } = await createDevice();
    const answering = device('direct_methods', text);
    await answering.expect(/^listening for methods$/);
    const invoke = async (methodName, payload) =>
      (await sender.invokeDeviceMethod(deviceId, { methodName, payload })).result;
    assert.deepStrictEqual(await invoke('getStatus'), { status: 200, payload: { interval: 60 } });
    await answering.expect(/^getStatus called with null$/);
    assert.deepStrictEqual(await invoke('setInterval', 5), { status: 200, payload: null });
    await answering.expect(/^setInterval called with 5$/);
    assert.deepStrictEqual(await invoke('getStatus'), { status: 200, payload: { interval: 5 } });
    await answering.expect(/^getStatus called with null$/);
    assert.strictEqual((await invoke('setInterval', 'soon')).status, 400);
    await answering.expect(/^setInterval called with "soon"$/);
    assert.deepStrictEqual(await invoke('fly'), { status: 404, payload: 'there is no method fly' });
    await answering.expect(/^fly called with null$/);
    await answering.interrupted();
    await assert.rejects(invoke('getStatus'), (error) => error.responseBody.includes('404103'));
  },
  async 'Rust invokes a method of a Node device'() {
    const { deviceId, text } = await createDevice();
    const answering = await nodeClient(text);
    answering.command({ method: 'reboot', status: 207 });
    await answering.says({ method: 'reboot' });
    const invoked = example('invoke_method', [deviceId, 'reboot', '{"delay": [1, "ü"]}']);
    await invoked.expect(/^the device answered 207: \{"delay":\[1,"ü"\]\}$/);
    await answering.says({ called: 'reboot', payload: { delay: [1, 'ü'] } });
    await invoked.ended();
    const unknown = example('invoke_method', [id('nobody'), 'reboot']);
    await unknown.expect(/^there is no such device: /);
    answering.command({ close: true });
    await answering.ended();
  },
  async 'Node sends messages to a Rust device'() {
    const { deviceId, text } = await createDevice();
    await sender.open();
    const receiver = await promise((done) => sender.getFeedbackReceiver(done));
    const feedback = arrivals();
    receiver.on('message', (message) => JSON.parse(message.data.toString()).forEach(feedback.push));
    const send = async (messageId, wish) => {
      const message = new Message(`it is ${messageId}`);
      Object.assign(message, { messageId, ack: 'full' });
      if (wish) message.properties.add('wish', wish);
      await sender.send(deviceId, message);
    };
    const told = async (messageId, status) => {
      const { originalMessageId, statusCode } = await feedback.next();
      assert.deepStrictEqual([originalMessageId, statusCode], [messageId, status]);
    };
    // The first one is there before the device is.
    await send('c-1');
    const taking = device('cloud_messages', text);
    await taking.expect(/^listening for messages$/);
    await taking.expect(/^message c-1: it is c-1$/);
    await taking.expect(/^completed c-1$/);
    await told('c-1', 'Success');
    await send('c-2', 'reject');
    await taking.expect(/^message c-2: it is c-2$/);
    await taking.expect(/^rejected c-2$/);
    await told('c-2', 'Rejected');
    await send('c-3', 'abandon');
    await taking.expect(/^message c-3: it is c-3$/);
    await taking.expect(/^abandoned c-3$/);
    await taking.expect(/^message c-3: it is c-3$/);
    await taking.expect(/^completed c-3$/);
    await told('c-3', 'Success');
    await taking.interrupted();
    // Nobody else is to get feedback that goes to this process.
    await promise((done) => receiver.detach(done));
    await sender.close();
  },
  async 'Rust sends messages to a Node device'() {
    const { deviceId, text } = await createDevice();
    const taking = await nodeClient(text);
    taking.command({ messages: 'complete' });
    await taking.says({ messages: 'complete' });
    const completed = example('send_message', [deviceId, 'grüß dich', '--wish', 'x']);
    const messageId = await completed.expect(/^sent (.+)$/);
    await taking.says({ message: 'grüß dich', id: messageId, properties: { wish: 'x' } });
    await completed.expect(/^Success by (.+)$/);
    await completed.ended();
    taking.command({ messages: 'reject' });
    await taking.says({ messages: 'reject' });
    const rejected = example('send_message', [deviceId, 'no']);
    await rejected.expect(/^sent /);
    await taking.line();
    await rejected.expect(/^Rejected by (.+)$/);
    await rejected.ended();
    taking.command({ close: true });
    await taking.ended();
  },
  async 'a Rust device sends, Event Hubs reads'() {
    const { deviceId, text } = await createDevice();
    const sending = device('telemetry', text, '--count', '3');
    await sending.expect(/^client opened$/);
    for (const number of [1, 2, 3]) await sending.expect(new RegExp(`^sent ${number}$`));
    await sending.expect(/^sent a batch of 2$/);
    await sending.ended();

    const events = arrivals();
    const reader = new EventHubConsumerClient('$Default', eventHub);
    const subscription = reader.subscribe({
      async processEvents(batch) {
        batch.filter((event) => event.systemProperties['iothub-connection-device-id'] === deviceId)
          .forEach(events.push);
      },
      async processError(error) {
        console.error(error);
        process.exit(1);
      },
    }, { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1 });
    for (const number of [1, 2, 3, 4, 5]) {
      const event = await events.next();
      assert.deepStrictEqual(event.body, { number, temperature: 20 + number / 2 });
      assert.strictEqual(event.messageId, `measurement-${number}`);
      assert.strictEqual(event.contentType, 'application/json');
      assert.strictEqual(event.properties.level, 'info');
    }
    await subscription.close();
    await reader.close();
  },
  async 'a Node device sends, Rust reads'() {
    const { deviceId, text } = await createDevice();
    const sending = await nodeClient(text);
    for (const [text, properties] of [['one', {}], ['zwei ü', { level: 'high' }]]) {
      sending.command({ send: text, properties });
      await sending.says({ sent: true });
    }
    const reading = example('read_events', ['--earliest', '--device', deviceId, '--count', '3']);
    await reading.expect(/^reading$/);
    assert.strictEqual(await reading.line(), `${deviceId}: one {}`);
    assert.strictEqual(await reading.line(), `${deviceId}: zwei ü {"level": "high"}`);
    sending.command({ send: 'three' });
    await sending.says({ sent: true });
    assert.strictEqual(await reading.line(), `${deviceId}: three {}`);
    await reading.ended();
    sending.command({ close: true });
    await sending.ended();
  },
});
