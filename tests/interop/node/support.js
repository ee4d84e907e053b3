// What the scripts for Microsoft's packages share. The hub is in the environment, as `hub.env` has it:
// IOTHUB_CONNECTION_STRING, EVENTHUB_CONNECTION_STRING, and NODE_EXTRA_CA_CERTS for its authority.
'use strict';

const assert = require('node:assert');
const { randomUUID, randomBytes } = require('node:crypto');
const service = require('azure-iothub');

const { ConnectionString, Registry } = service;

exports.hub = process.env.IOTHUB_CONNECTION_STRING;
exports.eventHub = process.env.EVENTHUB_CONNECTION_STRING;
exports.hostName = () => ConnectionString.parse(exports.hub).HostName;
exports.registry = (text = exports.hub) => Registry.fromConnectionString(text);
exports.id = (what) => `${what}-${randomUUID()}`;
exports.key = () => randomBytes(32).toString('base64');

// A device and its connection string.
exports.createDevice = async (what = 'device', description = {}) => {
  const deviceId = exports.id(what);
  const { responseBody: device } = await exports.registry().create({ deviceId, ...description });
  return { deviceId, text: exports.deviceString(deviceId, device.authentication.symmetricKey.primaryKey) };
};
// A module on it and its connection string.
exports.createModule = async (deviceId, moduleId) => {
  await exports.registry().addModule({ deviceId, moduleId });
  const { responseBody: module } = await exports.registry().getModule(deviceId, moduleId);
  return exports.moduleString(deviceId, moduleId, module.authentication.symmetricKey.primaryKey);
};

exports.deviceString = (deviceId, key) => `HostName=${exports.hostName()};DeviceId=${deviceId};SharedAccessKey=${key}`;
exports.moduleString = (deviceId, moduleId, key) =>
  `HostName=${exports.hostName()};DeviceId=${deviceId};ModuleId=${moduleId};SharedAccessKey=${key}`;

// Port 443 for AMQP too: `--websocket` on the command line.
const websocket = process.argv.includes('--websocket');
exports.websocket = websocket;
const { Amqp, AmqpWs } = require('azure-iot-device-amqp');
exports.deviceTransport = websocket ? AmqpWs : Amqp;
exports.serviceTransport = websocket ? service.AmqpWs : service.Amqp;

// What comes in, each with a `next()` to wait for it: `push` is the listener.
exports.arrivals = () => {
  const seen = [];
  const waiting = [];
  return {
    push: (value) => (waiting.length ? waiting.shift()(value) : seen.push(value)),
    next: () => (seen.length ? Promise.resolve(seen.shift()) : new Promise((done) => { waiting.push(done); })),
  };
};

// The error that `call` must end with, its class checked by name.
exports.failure = async (name, call) => {
  try {
    await call();
  } catch (error) {
    assert.strictEqual(error.constructor.name, name, `${error.stack}\n${error.responseBody}`);
    return error;
  }
  assert.fail(`${name} was expected, the call went well`);
};

// Callback style to promise; several results become an array.
exports.promise = (run) => new Promise((resolve, reject) => {
  run((error, ...results) => (error ? reject(error) : resolve(results.length > 1 ? results : results[0])));
});

// Runs the cases in order and ends the process with 0 or 1.
exports.run = async (what, cases) => {
  if (websocket) what += ' (websocket)';
  for (const [name, run] of Object.entries(cases)) {
    try {
      await within(name, run());
    } catch (error) {
      console.error(`${what}: ${name}: failed\n`, error);
      process.exit(1);
    }
    console.log(`${what}: ${name}: ok`);
  }
  process.exit(0);
};

// A promise that fails when nothing happens within 30 s: only when something hangs.
function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing happened for 30 s`)), 30_000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
exports.within = within;
