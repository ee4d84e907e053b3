// The same asked of one hub by azure-iothub, by azure-iot-hub (Python) and by this repository's service half comes to
// the same.
'use strict';

const assert = require('node:assert');
const { example, nodeScript, pythonScript } = require('./program.js');
const { id, registry, run } = require('./support.js');

const hub = registry();
const makers = {
  node: (deviceId) => nodeScript('node_registry.js', [deviceId, 'm']),
  python: (deviceId) => pythonScript('ask.py', ['create', deviceId, 'm']),
  rust: (deviceId) => example('create_identities', ['--device-id', deviceId, '--module-id', 'm']),
};
const site = id('site');
const made = {};

// A document without what is its own: ids, keys, times, etags.
function plain(document) {
  return JSON.parse(JSON.stringify(document, (name, value) => {
    if (/^(deviceId|generationId|.*[eE]tag|primaryKey|secondaryKey)$/.test(name)) return typeof value;
    return typeof value === 'string' && /^20\d\d-/.test(value) ? 'a time' : value;
  }));
}

run('alike', {
  async 'a device and a module made by each'() {
    for (const [maker, make] of Object.entries(makers)) {
      made[maker] = id(maker);
      const program = make(made[maker]);
      program.child.stdout.resume();
      await program.ended();
    }
    const documents = async (deviceId) => [
      await hub.get(deviceId), await hub.getModule(deviceId, 'm'),
      await hub.getTwin(deviceId), await hub.getModuleTwin(deviceId, 'm'),
    ].map(({ responseBody }) => plain(responseBody));
    const [node, python, rust] = await Promise.all(Object.values(made).map(documents));
    assert.strictEqual(node[0].status, 'enabled');
    assert.deepStrictEqual(python, node);
    assert.deepStrictEqual(rust, node);
  },
  async 'a query by each'() {
    const numbers = new Map(Object.values(made).map((deviceId, n) => [deviceId, n * 10]));
    for (const [deviceId, interval] of numbers) {
      await hub.updateTwin(deviceId, { tags: { site }, properties: { desired: { interval } } }, '*');
    }
    const condition = `tags.site = '${site}' AND properties.desired.interval >= 10`;
    const text = 'SELECT deviceId, tags.site AS site, properties.desired.interval AS interval FROM devices';
    const expected = [...numbers].slice(1).map(([deviceId, interval]) => ({ deviceId, site, interval }));
    const byNode = (await hub.createQuery(`${text} WHERE ${condition}`).next(null)).result;
    const python = pythonScript('ask.py', ['query', `${text} WHERE ${condition}`]);
    const byPython = JSON.parse(await python.line());
    await python.ended();
    const rust = example('query_twins', [condition]);
    const byRust = [];
    for (const _ of expected) {
      const [, deviceId, site, interval] = /^(\S+): site (\S+), interval Some\((\d+)\)$/.exec(await rust.line());
      byRust.push({ deviceId, site, interval: Number(interval) });
    }
    const order = (a, b) => (a.deviceId < b.deviceId ? -1 : 1);
    assert.deepStrictEqual([...byNode].sort(order), [...expected].sort(order));
    assert.deepStrictEqual(byPython, byNode);
    assert.deepStrictEqual(byRust, byNode);
  },
});
