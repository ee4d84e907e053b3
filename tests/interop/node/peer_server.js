// rhea as a server for the AMQP engine's tests: `node peer_server.js [MAX_FRAME_SIZE]` prints its port.
// What it does at which address: crates/iothub-amqp/tests/peers/node.rs.
'use strict';

const assert = require('node:assert');
const rhea = require('rhea');
const { body, number } = require('./numbered.js');

const asAsked = { condition: 'amqp:internal-error', description: 'as asked' };
const notFound = { condition: 'amqp:not-found', description: 'no such node' };
const notAllowed = { condition: 'amqp:not-allowed', description: 'as asked' };
const sinks = ['accept', 'reject', 'release', 'hold', 'one-by-one', 'control'];

const container = rhea.create_container({ id: 'rhea' });
// What each connection has under way.
const states = new Map();
container.on('connection_open', ({ connection }) => {
  states.set(connection, { waiting: 0, tally: { accepted: 0, rejected: 0, released: 0, lost: 0 }, held: [], asked: [] });
});
container.on('disconnected', ({ connection }) => states.delete(connection));

container.on('receiver_open', ({ receiver, connection }) => {
  const address = receiver.target?.address;
  if (!sinks.includes(address)) return receiver.close(notFound);
  receiver.set_target({ address });
  receiver.set_source({});
  receiver.count = 0;
  if (address === 'hold') states.get(connection).held.push(receiver);
  if (address !== 'one-by-one') receiver.set_credit_window(100);
  receiver.add_credit(address === 'one-by-one' ? 1 : 100);
});

container.on('message', ({ receiver, message, delivery, connection }) => {
  const address = receiver.target.address;
  if (address === 'control') {
    delivery.accept();
    return obey(message.body, connection, receiver.session);
  }
  assert.strictEqual(number(message.body.content), receiver.count, `order on ${address}`);
  receiver.count += 1;
  if (address === 'hold') return;
  if (address === 'reject') delivery.reject(notAllowed);
  else if (address === 'release') delivery.release();
  else delivery.accept();
  if (address === 'one-by-one') receiver.add_credit(1);
});

function obey(order, connection, session) {
  if (order === 'detach') states.get(connection).held.forEach((receiver) => receiver.close(asAsked));
  else if (order === 'end') session.close(asAsked);
  else if (order === 'close') connection.close(asAsked);
  else if (order === 'cut') connection.socket.destroy();
  else assert.fail(`no such order: ${order}`);
}

container.on('sender_open', ({ sender, connection }) => {
  const address = sender.source?.address ?? '';
  const [, kind, count, size] = /^(numbered|settled)\/(\d+)\/(\d+)$/.exec(address) ?? [];
  if (address !== 'tally' && !kind) return sender.close(notFound);
  sender.set_source({ address });
  sender.set_target({});
  sender.batch = { kind, sent: 0, count: Number(count ?? 0), size: Number(size) };
  const state = states.get(connection);
  if (address === 'tally') state.asked.push(sender);
  if (kind === 'numbered') state.waiting += sender.batch.count;
});

container.on('sendable', ({ sender, connection }) => {
  const { batch } = sender;
  while (batch.sent < batch.count && sender.sendable()) {
    const content = rhea.message.data_section(body(batch.sent, batch.size));
    const delivery = sender.send({ body: content });
    if (batch.kind === 'settled') delivery.settled = true;
    batch.sent += 1;
  }
  tell(states.get(connection));
});

for (const outcome of ['accepted', 'rejected', 'released']) {
  container.on(outcome, ({ connection, delivery }) => {
    // rcv-settle-mode second: the receiver waits for this.
    if (!delivery.remote_settled) delivery.update(true);
    const state = states.get(connection);
    state.waiting -= 1;
    state.tally[outcome] += 1;
    tell(state);
  });
}

// The tally goes out once every message has its outcome.
function tell(state) {
  if (state.waiting > 0) return;
  const text = Object.entries(state.tally).map(([name, n]) => `${name}=${n}`).join(' ');
  const [ready, later] = [[], []];
  state.asked.forEach((sender) => (sender.sendable() ? ready : later).push(sender));
  state.asked = later;
  ready.forEach((sender) => { sender.send({ body: text }).settled = true; });
}

const server = container.listen({
  host: '127.0.0.1',
  port: 0,
  max_frame_size: Number(process.argv[2] ?? 65536),
  receiver_options: { autoaccept: false, credit_window: 0 },
});
server.on('listening', () => console.log(server.address().port));
// It ends with whoever started it.
process.stdin.on('end', () => process.exit(0)).resume();
