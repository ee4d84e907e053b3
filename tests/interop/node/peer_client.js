// rhea as a client of the AMQP engine: `node peer_client.js PORT`. Exits 0 when every case went well.
// What the server does at which address: crates/iothub-amqp/tests/peers/node.rs.
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const rhea = require('rhea');
const { body, number } = require('./numbered.js');

const port = Number(process.argv[2]);
const asAsked = { condition: 'amqp:internal-error', description: 'as asked' };
const notFound = { condition: 'amqp:not-found', description: 'no such node' };

async function open(options = {}) {
  const container = rhea.create_container({ id: 'rhea' });
  const connection = container.connect({ host: '127.0.0.1', port, reconnect: false, ...options });
  const failed = once(connection, 'disconnected').then(([context]) => { throw context.error ?? new Error('disconnected'); });
  failed.catch(() => {});
  await Promise.race([once(connection, 'connection_open'), failed]);
  return connection;
}

async function close(endpoint, event) {
  endpoint.close();
  await once(endpoint, event);
}

async function sender(connection, address, options = {}) {
  const link = connection.open_sender({ target: { address }, autosettle: true, ...options });
  await once(link, 'sendable');
  return link;
}

// Sends messages number `from` to `to` and waits for their outcomes, in order.
function send(link, count, size = 100, from = 0) {
  return new Promise((resolve, reject) => {
    const outcomes = [];
    let sent = from;
    const fill = () => {
      while (sent < from + count && link.sendable()) {
        link.send({ body: rhea.message.data_section(body(sent, size)) });
        sent += 1;
      }
    };
    const note = (outcome) => ({ delivery }) => {
      outcomes.push([outcome, delivery.remote_state?.error]);
      // rcv-settle-mode second: the receiver waits for this.
      if (!delivery.remote_settled) delivery.update(true);
      if (outcomes.length === count) resolve(outcomes);
    };
    for (const outcome of ['accepted', 'rejected', 'released']) link.on(outcome, note(outcome));
    link.once('sender_close', () => reject(new Error(`closed: ${link.error}`)));
    link.on('sendable', fill);
    fill();
  });
}

// Takes `count` numbered messages and answers each with `answer`.
function take(link, count, size, answer = (delivery) => delivery.accept()) {
  return new Promise((resolve, reject) => {
    let taken = 0;
    link.on('message', ({ message, delivery }) => {
      try {
        assert.strictEqual(number(message.body.content), taken);
        assert.strictEqual(message.body.content.length, size);
      } catch (error) {
        return reject(error);
      }
      answer(delivery, taken);
      taken += 1;
      if (taken === count) resolve();
    });
  });
}

function receiver(connection, address, options = {}) {
  return connection.open_receiver({ source: { address }, autoaccept: false, credit_window: 100, ...options });
}

async function tally(connection) {
  const link = connection.open_receiver({ source: { address: 'tally' } });
  const [{ message }] = await once(link, 'message');
  return message.body;
}

async function order(connection, what) {
  const link = await sender(connection, 'control', { snd_settle_mode: 1 });
  link.send({ body: what });
}

const cases = {
  async 'a bare header opens and closes'() {
    const connection = await open();
    assert.strictEqual(connection.container_id, 'node');
    await close(connection, 'connection_close');
  },
  async 'SASL ANONYMOUS and PLAIN'() {
    for (const login of [{ username: 'anybody' }, { username: 'user', password: 'secret' }]) {
      const connection = await open(login);
      assert.deepStrictEqual(await send(await sender(connection, 'accept'), 1), [['accepted', undefined]]);
      await close(connection, 'connection_close');
    }
  },
  async 'a wrong password is refused'() {
    await assert.rejects(open({ username: 'user', password: 'guess' }));
  },
  async 'every outcome comes back'() {
    const connection = await open();
    for (const outcome of ['accepted', 'rejected', 'released']) {
      const link = await sender(connection, { accepted: 'accept', rejected: 'reject', released: 'release' }[outcome]);
      for (const [got, error] of await send(link, 3)) {
        assert.strictEqual(got, outcome);
        assert.strictEqual(error?.condition, outcome === 'rejected' ? 'amqp:not-allowed' : undefined);
        assert.strictEqual(error?.description, outcome === 'rejected' ? 'as asked' : undefined);
      }
    }
    await close(connection, 'connection_close');
  },
  async '5,000 messages each way'() {
    const connection = await open();
    assert.strictEqual((await send(await sender(connection, 'accept'), 5000)).length, 5000);
    await take(receiver(connection, 'numbered/5000/100', { credit_window: 1000 }), 5000, 100);
    assert.strictEqual(await tally(connection), 'accepted=5000 rejected=0 released=0 lost=0');
    await close(connection, 'connection_close');
  },
  async 'large messages in frames of 512 bytes'() {
    const connection = await open({ max_frame_size: 512 });
    const link = await sender(connection, 'accept');
    let from = 0;
    for (const size of [8, 500, 5000, 300000, 1 << 20]) {
      assert.deepStrictEqual(await send(link, 1, size, from), [['accepted', undefined]]);
      link.removeAllListeners();
      from += 1;
    }
    // More than 2,048 frames in one message stall rhea 3.0: it sends no session flow inside one.
    for (const size of [8, 500, 5000, 300000]) {
      await take(receiver(connection, `numbered/2/${size}`), 2, size);
    }
    await close(connection, 'connection_close');
  },
  async 'a mebibyte each way'() {
    const connection = await open();
    assert.deepStrictEqual(await send(await sender(connection, 'accept'), 1, 1 << 20), [['accepted', undefined]]);
    await take(receiver(connection, `numbered/3/${1 << 20}`), 3, 1 << 20);
    await close(connection, 'connection_close');
  },
  async 'our outcomes are counted'() {
    const connection = await open();
    await take(receiver(connection, 'numbered/9/20'), 9, 20, (delivery, n) => {
      if (n < 5) delivery.accept();
      else if (n < 7) delivery.reject({ condition: 'amqp:decode-error', description: 'no' });
      else delivery.release();
    });
    assert.strictEqual(await tally(connection), 'accepted=5 rejected=2 released=2 lost=0');
    await close(connection, 'connection_close');
  },
  async 'settled messages'() {
    const connection = await open();
    await take(receiver(connection, 'settled/300/20'), 300, 20);
    const link = await sender(connection, 'accept', { snd_settle_mode: 1 });
    for (let n = 0; n < 50; n += 1) link.send({ body: rhea.message.data_section(body(n, 20)) });
    // Agreed to after all of them were seen.
    await close(link, 'sender_close');
    await close(connection, 'connection_close');
  },
  async 'settling in two steps'() {
    const connection = await open();
    const link = await sender(connection, 'accept', { rcv_settle_mode: 1 });
    assert.strictEqual((await send(link, 5)).length, 5);
    const second = receiver(connection, 'numbered/5/20', { rcv_settle_mode: 1 });
    const settled = new Promise((resolve) => {
      let count = 0;
      second.on('settled', () => { count += 1; if (count === 5) resolve(); });
    });
    await take(second, 5, 20);
    await settled;
    await close(connection, 'connection_close');
  },
  async 'no credit, no message'() {
    const connection = await open();
    const link = receiver(connection, 'numbered/10/20', { credit_window: 0 });
    let seen = 0;
    link.on('message', ({ delivery }) => { seen += 1; delivery.accept(); });
    link.add_credit(3);
    while (seen < 3) await once(link, 'message');
    // An answer on another link comes after anything the server had still to say.
    await send(await sender(connection, 'accept'), 1);
    assert.strictEqual(seen, 3);
    link.add_credit(7);
    while (seen < 10) await once(link, 'message');
    await close(connection, 'connection_close');
  },
  async 'credit for one message at a time'() {
    const connection = await open();
    assert.strictEqual((await send(await sender(connection, 'one-by-one'), 200)).length, 200);
    await close(connection, 'connection_close');
  },
  async 'a refused link says why and costs no other'() {
    const connection = await open();
    const link = await sender(connection, 'accept');
    const refused = connection.open_sender({ target: { address: 'nowhere' } });
    await once(refused, 'sender_error');
    assert.deepStrictEqual(pick(refused.error), notFound);
    assert.strictEqual(refused.target?.address, undefined);
    const other = connection.open_receiver({ source: { address: 'nowhere' } });
    await once(other, 'receiver_error');
    assert.deepStrictEqual(pick(other.error), notFound);
    assert.strictEqual((await send(link, 1)).length, 1);
    await close(connection, 'connection_close');
  },
  async 'the client detaches, attaches again, ends and closes'() {
    const connection = await open();
    for (let n = 0; n < 3; n += 1) {
      const link = await sender(connection, 'accept', { name: 'again' });
      await send(link, 1);
      await close(link, 'sender_close');
    }
    const session = connection.create_session();
    session.begin();
    const link = await sender(session, 'accept');
    await send(link, 1);
    await close(session, 'session_close');
    await close(connection, 'connection_close');
  },
  async 'the server detaches'() {
    const connection = await open();
    const held = await sender(connection, 'hold');
    held.send({ body: rhea.message.data_section(body(0, 20)) });
    await order(connection, 'detach');
    await once(held, 'sender_error');
    assert.deepStrictEqual(pick(held.error), asAsked);
    await close(connection, 'connection_close');
  },
  async 'the server ends the session'() {
    const connection = await open();
    const session = connection.create_session();
    session.begin();
    await order(session, 'end');
    await once(session, 'session_error');
    assert.deepStrictEqual(pick(session.error), asAsked);
    await close(connection, 'connection_close');
  },
  async 'the server closes the connection'() {
    const connection = await open();
    await order(connection, 'close');
    await once(connection, 'connection_error');
    assert.deepStrictEqual(pick(connection.error), asAsked);
  },
  async 'the server cuts the stream'() {
    const connection = await open();
    const gone = once(connection, 'disconnected');
    await order(connection, 'cut');
    await gone;
  },
};

function pick({ condition, description }) {
  return { condition, description };
}

async function main() {
  for (const [name, run] of Object.entries(cases)) {
    await run();
    console.log(`rhea client: ${name}: ok`);
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
