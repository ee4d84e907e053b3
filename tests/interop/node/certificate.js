// Certificates of devices, made by the openssl program.
'use strict';

const { execFileSync } = require('node:child_process');
const { X509Certificate } = require('node:crypto');
const { mkdtempSync, readFileSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const path = require('node:path');

// Self-signed, for one name.
exports.certificate = (name) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'iothub-'));
  const file = (name) => path.join(folder, name);
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', `/CN=${name}`, '-keyout', file('key.pem'), '-out', file('cert.pem'),
  ], { stdio: 'ignore' });
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => readFileSync(file(name), 'utf8'));
  rmSync(folder, { recursive: true });
  const { fingerprint, fingerprint256 } = new X509Certificate(cert);
  const digits = (text) => text.replaceAll(':', '');
  return { key, cert, sha1: digits(fingerprint), sha256: digits(fingerprint256) };
};
