// Programs that a script starts and whose lines it waits for: this repository's examples, as a user would start them,
// and clients on Microsoft's packages.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const path = require('node:path');
const { createInterface } = require('node:readline');

const root = path.join(__dirname, '..', '..', '..');

// None outlives the script.
const children = [];
process.on('exit', () => children.forEach((child) => child.kill()));

function program(command, args, environment = {}) {
  const env = { ...process.env, ...environment };
  const name = [path.basename(command), ...args].join(' ');
  const child = spawn(command, args, { cwd: root, env, stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    async line() {
      const { value, done } = await lines.next();
      assert.ok(!done, `${name} ended without another line`);
      return value;
    },
    // The next line, or the part of it in parentheses; it must look like `pattern`.
    async expect(pattern) {
      const line = await this.line();
      const match = pattern.exec(line);
      assert.ok(match, `${pattern} was expected, not: ${line}`);
      return match[1] ?? match[0];
    },
    // The next line as JSON must be this.
    async says(expected) {
      assert.deepStrictEqual(JSON.parse(await this.line()), expected);
    },
    command: (value) => child.stdin.write(`${JSON.stringify(value)}\n`),
    async ended() {
      const [code, signal] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
      assert.strictEqual(code, 0, `${name} ended with ${code ?? signal}`);
    },
    // As Ctrl-C.
    async interrupted() {
      child.kill('SIGINT');
      await this.ended();
    },
  };
}

// Built before; cargo would wait for whoever else builds.
exports.example = (name, args, environment) => program(path.join(process.env.IOTHUB_EXAMPLES, name), args, environment);

// `node_client.js` as the identity of a connection string; `--websocket` goes along.
exports.nodeClient = async (text) => {
  const helper = path.join(__dirname, 'node_client.js');
  const environment = { IOTHUB_CLIENT_CONNECTION_STRING: text };
  const client = program(process.execPath, [helper, ...process.argv.slice(2)], environment);
  await client.says({ open: true });
  return client;
};

exports.nodeScript = (name, args) => program(process.execPath, [path.join(__dirname, name), ...args]);

exports.pythonScript = (name, args) =>
  program(path.join(__dirname, '..', '.venv', 'bin', 'python'), [path.join(__dirname, '..', 'python', name), ...args]);
