// Messages that tell whether they arrived whole and in order; the same rule as crates/iothub-amqp/tests/peers/numbered.rs.
'use strict';

exports.body = (number, size) => {
  const body = Buffer.alloc(size);
  for (let at = 0; at < size; at += 1) body[at] = (number + at) & 0xff;
  body.writeUInt32BE(number, 0);
  return body;
};

// The number of a body that is whole, otherwise undefined.
exports.number = (body) => {
  const number = body.readUInt32BE(0);
  return body.equals(exports.body(number, body.length)) ? number : undefined;
};
