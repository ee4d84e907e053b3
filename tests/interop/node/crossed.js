// Half and half: identities made by the Rust registry with a Node module on them, and the other way round. The Rust
// programs are the repository's examples, started as a user would start them.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const path = require('node:path');
const { createInterface } = require('node:readline');
const { id, registry, run } = require('./support.js');

const root = path.join(__dirname, '..', '..', '..');
const hubRegistry = registry();
const moduleId = 'module';

// A program whose lines are waited for one after the other.
function program(command, args, environment = {}) {
  const env = { ...process.env, ...environment };
  const child = spawn(command, args, { cwd: root, env, stdio: ['pipe', 'pipe', 'inherit'] });
  process.on('exit', () => child.kill());
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    async line() {
      const { value, done } = await lines.next();
      assert.ok(!done, `${args.join(' ')} ended without another line`);
      return value;
    },
    // The part in parentheses of the next line, which must look like `pattern`.
    async expect(pattern) {
      const line = await this.line();
      const match = pattern.exec(line);
      assert.ok(match, `${pattern} was expected, not: ${line}`);
      return match[1];
    },
    command: (value) => child.stdin.write(`${JSON.stringify(value)}\n`),
    async ended() {
      const [code, signal] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
      assert.strictEqual(code, 0, `${args.join(' ')} ended with ${code ?? signal}`);
    },
  };
}

const example = (name, args, environment) =>
  program('cargo', ['run', '--quiet', '--example', name, '--', ...args], environment);

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

    const helper = path.join(__dirname, 'node_module.js');
    const module = program(process.execPath, [helper], { IOTHUB_MODULE_CONNECTION_STRING: moduleString });
    const { twin } = JSON.parse(await module.line());
    assert.deepStrictEqual(twin, { desired: { $version: 1 }, reported: { $version: 1 } });
    assert.deepStrictEqual(JSON.parse(await module.line()), { desired: { $version: 1 } });
    assert.deepStrictEqual(JSON.parse(await module.line()), { listening: true });
    await setDesired(deviceId, { rate: 7 });
    assert.deepStrictEqual(JSON.parse(await module.line()), { desired: { rate: 7, $version: 2 } });
    module.command({ report: { rate: 7 } });
    assert.deepStrictEqual(JSON.parse(await module.line()), { reported: true });
    assert.strictEqual((await twinOf(deviceId)).properties.reported.rate, 7);
    module.command({ close: true });
    await module.ended();
  },
  async 'Node registry, Rust module'() {
    const deviceId = id('device');
    const made = program(process.execPath, [path.join(__dirname, 'node_registry.js'), deviceId, moduleId]);
    const { module: moduleString } = JSON.parse(await made.line());
    await made.ended();

    const module = example('update_module_twin', [], { IOTHUB_MODULE_CONNECTION_STRING: moduleString });
    await module.expect(/^client opened$/);
    await module.expect(/^twin contents:$/);
    const contents = JSON.parse(await module.line());
    assert.deepStrictEqual(contents, { desired: { $version: 1 }, reported: { $version: 1 } });
    await module.expect(/^new desired properties received:$/);
    assert.deepStrictEqual(JSON.parse(await module.line()), { $version: 1 });
    await module.expect(/^twin state reported$/);
    const { reported } = (await twinOf(deviceId)).properties;
    assert.strictEqual(reported.firmwareVersion, '1.2.1');
    assert.deepStrictEqual(reported.weather, { temperature: 72, humidity: 17 });
    await setDesired(deviceId, { firmware: { version: '1.3' } });
    await module.expect(/^new desired properties received:$/);
    assert.deepStrictEqual(JSON.parse(await module.line()), { firmware: { version: '1.3' }, $version: 2 });
    module.child.kill('SIGINT');
    await module.ended();
    assert.strictEqual((await twinOf(deviceId)).connectionState, 'Disconnected');
  },
});
