// Files that azure-iot-device uploads: in one call, and step by step with Microsoft's storage client.
'use strict';

const assert = require('node:assert');
const { Readable } = require('node:stream');
const { BlockBlobClient } = require('@azure/storage-blob');
const { Client } = require('azure-iot-device');
const { createDevice, deviceTransport, run } = require('./support.js');

// Larger than what goes up in one piece.
const large = Buffer.alloc(9_000_000, 'abc');

async function open() {
  const { deviceId, text } = await createDevice('upload');
  const client = Client.fromConnectionString(text, deviceTransport);
  await client.open();
  return { client, deviceId };
}

const uri = (place) => `https://${place.hostName}/${place.containerName}/${place.blobName}${place.sasToken}`;

run('uploads', {
  async 'in one call'() {
    const { client } = await open();
    await client.uploadToBlob('dir/a b.bin', Readable.from([large]), large.length);
    await client.close();
  },
  async 'step by step, read back'() {
    const { client, deviceId } = await open();
    const place = await client.getBlobSharedAccessSignature('dir/a b.bin');
    assert.strictEqual(place.blobName, `${deviceId}/dir/a b.bin`);
    const blob = new BlockBlobClient(uri({ ...place, blobName: place.blobName.split('/').map(encodeURIComponent).join('/') }));
    await blob.upload('hello', 5, { blobHTTPHeaders: { blobContentType: 'text/plain' } });
    const { contentLength, contentType } = await blob.getProperties();
    assert.deepStrictEqual([contentLength, contentType], [5, 'text/plain']);
    await blob.uploadStream(Readable.from([large]), 1024 * 1024, 4);
    assert(large.equals(await blob.downloadToBuffer()));
    await client.notifyBlobUploadStatus(place.correlationId, true, 200, 'OK');
    await client.close();
  },
  async 'refusals are errors'() {
    const { client } = await open();
    await assert.rejects(client.notifyBlobUploadStatus('none', true, 200, 'OK'));
    const places = [];
    for (let n = 0; n < 10; n += 1) places.push(await client.getBlobSharedAccessSignature(`${n}`));
    await assert.rejects(client.getBlobSharedAccessSignature('more'));
    const other = new BlockBlobClient(uri({ ...places[0], blobName: places[1].blobName }));
    await assert.rejects(other.upload('x', 1), { statusCode: 403, code: 'AuthenticationFailed' });
    await client.close();
  },
});
