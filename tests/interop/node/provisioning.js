// The provisioning service on Microsoft's packages: enrollments by the service's, registrations by the device's over
// HTTPS, with keys and certificates; each device then connects with what it was registered with.
'use strict';

const assert = require('node:assert');
const { createHmac } = require('node:crypto');
const { Client } = require('azure-iot-device');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');
const { certificate } = require('./certificate.js');
const { deviceString, deviceTransport, failure, hostName, hub, id, key, run } = require('./support.js');

// The hub's default.
const scope = '0ne00000001';
const service = ProvisioningServiceClient.fromConnectionString(hub);
const register = (security) => ProvisioningDeviceClient.create(hostName(), scope, new Http(), security).register();
const derive = (groupKey, registrationId) =>
  createHmac('SHA256', Buffer.from(groupKey, 'base64')).update(registrationId, 'utf8').digest('base64');

async function connects(text, options) {
  const client = Client.fromConnectionString(text, deviceTransport);
  if (options) await client.setOptions(options);
  await client.open();
  await client.getTwin();
  await client.close();
}

const symmetricKey = (primaryKey, secondaryKey = primaryKey) =>
  ({ type: 'symmetricKey', symmetricKey: { primaryKey, secondaryKey } });

run('provisioning', {
  async 'an individual key'() {
    const [registrationId, own] = [id('sensor'), key()];
    const deviceId = `device-of-${registrationId}`;
    await service.createOrUpdateIndividualEnrollment({ registrationId, deviceId, attestation: symmetricKey(own) });
    const result = await register(new SymmetricKeySecurityClient(registrationId, own));
    assert.deepStrictEqual([result.assignedHub, result.deviceId, result.status], [hostName(), deviceId, 'assigned']);
    await connects(deviceString(deviceId, own));
    await failure('UnauthorizedError', () => register(new SymmetricKeySecurityClient(registrationId, key())));
    await service.deleteIndividualEnrollment(registrationId);
    await failure('UnauthorizedError', () => register(new SymmetricKeySecurityClient(registrationId, own)));
  },
  async 'members of a group'() {
    const [enrollmentGroupId, groupKey] = [id('line'), key()];
    await service.createOrUpdateEnrollmentGroup({ enrollmentGroupId, attestation: symmetricKey(groupKey, key()) });
    const deviceId = id('Sensor');
    const own = derive(groupKey, deviceId);
    const result = await register(new SymmetricKeySecurityClient(deviceId, own));
    assert.deepStrictEqual([result.deviceId, result.symmetricKey.enrollmentGroupId], [deviceId, enrollmentGroupId]);
    await connects(deviceString(deviceId, own));
    await failure('UnauthorizedError', () => register(new SymmetricKeySecurityClient(deviceId, groupKey)));
  },
  async 'a certificate'() {
    const registrationId = id('x').toLowerCase();
    const own = certificate(registrationId);
    const attestation = { type: 'x509', x509: { clientCertificates: { primary: { certificate: own.cert } } } };
    await service.createOrUpdateIndividualEnrollment({ registrationId, attestation });
    const { deviceId } = await register(new X509Security(registrationId, own));
    await connects(`HostName=${hostName()};DeviceId=${deviceId};x509=true`, own);
  },
});
