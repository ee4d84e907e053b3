// azure-iothub's queries against a hub: twins, rows, pages, mistakes.
'use strict';

const assert = require('node:assert');
const { failure, id, registry, run } = require('./support.js');

const hub = registry();
// Other scripts have devices on the same hub.
const site = id('site');
const ofSite = `tags.site = '${site}'`;
const fleet = Array.from({ length: 7 }, () => id('queried')).sort();

async function pages(query, next) {
  const found = [];
  while (query.hasMoreResults) found.push((await next(query)).result);
  return found;
}

run('queries', {
  async 'a fleet of seven with a module each'() {
    for (const [number, deviceId] of fleet.entries()) {
      await hub.create({ deviceId, status: number < 5 ? 'enabled' : 'disabled' });
      await hub.updateTwin(deviceId, { tags: { site, number }, properties: { desired: { floor: number % 2 } } }, '*');
      await hub.addModule({ deviceId, moduleId: 'm' });
      await hub.updateModuleTwin(deviceId, 'm', { tags: { site } }, '*');
    }
  },
  async 'twins, all at once'() {
    const query = hub.createQuery(`SELECT * FROM devices WHERE ${ofSite}`);
    const { result: twins } = await query.nextAsTwin();
    assert.deepStrictEqual(twins.map((twin) => twin.deviceId).sort(), fleet);
    assert.strictEqual(query.hasMoreResults, false);
    // A twin from a query is one to go on with.
    const [twin] = twins;
    await twin.update({ tags: { seen: true } });
    assert.strictEqual((await hub.getTwin(twin.deviceId)).responseBody.tags.seen, true);
  },
  async 'twins in pages of three'() {
    const query = hub.createQuery(`SELECT * FROM devices WHERE ${ofSite}`, 3);
    const found = await pages(query, (query) => query.nextAsTwin());
    assert.deepStrictEqual(found.map((page) => page.length), [3, 3, 1]);
    assert.deepStrictEqual(found.flat().map((twin) => twin.deviceId).sort(), fleet);
  },
  async 'a page by its token, in a query of its own'() {
    const text = `SELECT deviceId FROM devices WHERE ${ofSite}`;
    const first = hub.createQuery(text, 5);
    const { result: five } = await first.next(null);
    const second = hub.createQuery(text, 5);
    const { result: two } = await second.next(first.continuationToken);
    assert.deepStrictEqual([five.length, two.length, second.hasMoreResults], [5, 2, false]);
    assert.deepStrictEqual([...five, ...two].map((row) => row.deviceId).sort(), fleet);
  },
  async 'rows, conditions, aggregates'() {
    const rows = async (text) => (await hub.createQuery(text).next(null)).result;
    const last = `${ofSite} AND tags.number >= 5 AND status = 'disabled'`;
    const found = await rows(`SELECT deviceId, tags.number FROM devices WHERE ${last}`);
    assert.deepStrictEqual(
      found.sort((a, b) => a.number - b.number),
      [{ deviceId: fleet[5], number: 5 }, { deviceId: fleet[6], number: 6 }],
    );
    assert.deepStrictEqual(await rows(`SELECT COUNT() AS n FROM devices WHERE ${ofSite}`), [{ n: 7 }]);
    const floor = 'properties.desired.floor';
    const groups = await rows(`SELECT ${floor} AS floor, COUNT() AS n FROM devices WHERE ${ofSite} GROUP BY ${floor}`);
    assert.deepStrictEqual(groups.sort((a, b) => a.floor - b.floor), [{ floor: 0, n: 4 }, { floor: 1, n: 3 }]);
    assert.deepStrictEqual(await rows(`SELECT deviceId FROM devices WHERE tags.site = '${id('nowhere')}'`), []);
  },
  async 'modules'() {
    const query = hub.createQuery(`SELECT * FROM devices.modules WHERE ${ofSite}`, 4);
    const found = (await pages(query, (query) => query.nextAsTwin())).flat();
    assert.deepStrictEqual(found.map((twin) => twin.deviceId).sort(), fleet);
    assert.ok(found.every((twin) => twin.moduleId === 'm'));
  },
  async 'mistakes'() {
    for (const text of ['SELECT * FORM devices', 'SELECT * FROM nowhere', "SELECT * FROM devices WHERE tags.site = '"]) {
      const error = await failure('ArgumentError', () => hub.createQuery(text).next(null));
      assert.strictEqual(error.response.statusCode, 400);
    }
  },
  async 'clean up'() {
    for (const deviceId of fleet) await hub.delete(deviceId);
  },
});
