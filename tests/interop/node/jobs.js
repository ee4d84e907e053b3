// azure-iothub's JobClient against a hub: twin updates and methods on many devices.
'use strict';

const assert = require('node:assert');
const { Client } = require('azure-iot-device');
const { JobClient } = require('azure-iothub');
const { createDevice, deviceTransport, failure, hub, id, registry, run } = require('./support.js');

const jobs = JobClient.fromConnectionString(hub);
const site = id('site');
const ofSite = `tags.site = '${site}'`;
const fleet = [];
const twinJob = id('job');
const methodJob = id('job');
const lateJob = id('job');

const hour = 3600;
// The job once it has ended. It takes as long as the hub takes; only when it hangs the case ends otherwise.
async function ended(jobId) {
  for (;;) {
    const { jobStatus } = await jobs.getJob(jobId);
    if (['completed', 'failed', 'cancelled'].includes(jobStatus.status)) return jobStatus;
    await new Promise((done) => { setTimeout(done, 100); });
  }
}

const rowsOf = async (jobId) =>
  (await registry().createQuery(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${jobId}'`).next(null)).result;

run('jobs', {
  async 'a fleet of three'() {
    for (let number = 0; number < 3; number += 1) {
      const device = await createDevice('worker');
      await registry().updateTwin(device.deviceId, { tags: { site } }, '*');
      fleet.push(device);
    }
  },
  async 'update twins'() {
    const patch = { tags: { wave: 1 }, properties: { desired: { rate: 3 } }, etag: '*' };
    await jobs.scheduleTwinUpdate(twinJob, ofSite, patch, new Date(), hour);
    const job = await ended(twinJob);
    assert.strictEqual(job.status, 'completed');
    assert.strictEqual(job.type, 'scheduleUpdateTwin');
    const { deviceJobStatistics: counts } = job;
    assert.deepStrictEqual([counts.deviceCount, counts.succeededCount, counts.failedCount], [3, 3, 0]);
    for (const { deviceId } of fleet) {
      const { responseBody: twin } = await registry().getTwin(deviceId);
      assert.deepStrictEqual([twin.tags.wave, twin.properties.desired.rate], [1, 3]);
    }
  },
  async 'invoke a method, one device offline'() {
    const clients = [];
    for (const { text } of fleet.slice(0, 2)) {
      const client = Client.fromConnectionString(text, deviceTransport);
      await client.open();
      client.onDeviceMethod('work', (request, response) => response.send(200, { did: request.payload }));
      clients.push(client);
    }
    // `onDeviceMethod` does not say when it listens; an invocation that waits for it does.
    const invoker = require('azure-iothub').Client.fromConnectionString(hub);
    const wait = { methodName: 'work', payload: 'hello', connectTimeoutInSeconds: 30 };
    for (const { deviceId } of fleet.slice(0, 2)) await invoker.invokeDeviceMethod(deviceId, wait);

    const method = { methodName: 'work', payload: { n: 1 }, responseTimeoutInSeconds: 30 };
    await jobs.scheduleDeviceMethod(methodJob, ofSite, method, new Date(), hour);
    const { deviceJobStatistics: counts } = await ended(methodJob);
    assert.deepStrictEqual([counts.deviceCount, counts.succeededCount, counts.failedCount], [3, 2, 1]);
    const rows = await rowsOf(methodJob);
    assert.strictEqual(rows.length, 3);
    for (const row of rows) {
      if (row.deviceId === fleet[2].deviceId) {
        assert.strictEqual(row.status, 'failed');
        assert.match(row.error.code, /404103|DeviceNotOnline/);
      } else {
        assert.strictEqual(row.status, 'completed');
        assert.deepStrictEqual(row.outcome.deviceMethodResponse, { status: 200, payload: { did: { n: 1 } } });
      }
    }
    for (const client of clients) await client.close();
  },
  async 'the hub lists them'() {
    const query = jobs.createQuery('scheduleDeviceMethod');
    const found = [];
    while (query.hasMoreResults) found.push(...(await query.next(query.continuationToken)).result);
    const ids = found.map((job) => job.jobId);
    assert.ok(ids.includes(methodJob) && !ids.includes(twinJob), ids.join());
  },
  async 'one for later, cancelled'() {
    const later = new Date(Date.now() + hour * 1000);
    const { jobStatus } = await jobs.scheduleTwinUpdate(lateJob, ofSite, { tags: { wave: 2 }, etag: '*' }, later, hour);
    assert.ok(['scheduled', 'queued'].includes(jobStatus.status), jobStatus.status);
    const cancelled = await jobs.cancelJob(lateJob);
    assert.strictEqual(cancelled.jobStatus.status, 'cancelled');
    assert.strictEqual((await jobs.getJob(lateJob)).jobStatus.status, 'cancelled');
    assert.strictEqual((await registry().getTwin(fleet[0].deviceId)).responseBody.tags.wave, 1);
  },
  async 'one id twice, and none that is there'() {
    const again = () => jobs.scheduleTwinUpdate(twinJob, ofSite, { tags: { wave: 3 }, etag: '*' }, new Date(), hour);
    assert.strictEqual((await failure('DeviceAlreadyExistsError', again)).response.statusCode, 409);
    const error = await failure('Error', () => jobs.getJob(id('nothing')));
    assert.strictEqual(error.response.statusCode, 404);
  },
});
