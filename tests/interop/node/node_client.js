// A device or module on azure-iot-device that other programs steer: `node node_client.js [--websocket]`, with its
// connection string in IOTHUB_CLIENT_CONNECTION_STRING. It prints JSON lines, `{"open": true}` once it is connected,
// and reads commands as JSON lines, until `{"close": true}` or the end of its input. Each command has one answer, or
// `{"error": "…"}`:
//
//   {"twin": true}                        {"twin": {"desired": …, "reported": …}}
//   {"desired": true}                     {"listening": true}, and from then on a line {"desired": …} for each update:
//                                         the first is the state at subscription. It has reported `listening: true`
//   {"report": PATCH}                     {"reported": true}
//   {"send": TEXT, "properties": {…}}     {"sent": true}
//   {"method": NAME, "status": N}         {"method": NAME}, and from then on a line {"called": NAME, "payload": …} for
//                                         each call, which gets its payload back
//   {"messages": "complete"|"abandon"|"reject"}
//                                         {"messages": …}, and from then on a line {"message": TEXT, "id": …,
//                                         "properties": {…}} for each message, which is then settled so
'use strict';

const { createInterface } = require('node:readline');
const { Client, Message } = require('azure-iot-device');
const { deviceTransport, promise } = require('./support.js');

const print = (value) => console.log(JSON.stringify(value));

async function main() {
  const client = Client.fromConnectionString(process.env.IOTHUB_CLIENT_CONNECTION_STRING, deviceTransport);
  await client.open();
  print({ open: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.close) break;
    const [name] = Object.keys(command);
    try {
      print(await commands[name](client, command));
    } catch (error) {
      print({ error: `${error.name}: ${error.message}` });
    }
  }
  await client.close();
}

// Once: each `getTwin` tells the listeners the whole state again.
let known;
const twinOf = (client) => (known ??= client.getTwin());

const report = async (client, patch) => {
  const twin = await twinOf(client);
  await promise((done) => twin.properties.reported.update(patch, done));
};

let settle;
const commands = {
  async twin(client) {
    const { desired, reported } = (await twinOf(client)).properties;
    return { twin: { desired, reported } };
  },
  async desired(client) {
    const twin = await twinOf(client);
    twin.on('properties.desired', (update) => print({ desired: update }));
    // `on` subscribes and does not say when that is done; what is sent after it is answered after it.
    await report(client, { listening: true });
    return { listening: true };
  },
  async report(client, { report: patch }) {
    await report(client, patch);
    return { reported: true };
  },
  async send(client, { send: text, properties = {} }) {
    const message = new Message(text);
    for (const [name, value] of Object.entries(properties)) message.properties.add(name, value);
    await client.sendEvent(message);
    return { sent: true };
  },
  async method(client, { method, status = 200 }) {
    client.onDeviceMethod(method, (request, response) => {
      print({ called: method, payload: request.payload });
      response.send(status, request.payload);
    });
    return { method };
  },
  async messages(client, { messages: how }) {
    const listening = settle !== undefined;
    settle = (message) => client[how](message, () => {});
    if (!listening) {
      client.on('message', (message) => {
        const properties = Object.fromEntries(message.properties.propertyList.map(({ key, value }) => [key, value]));
        print({ message: message.data.toString(), id: message.messageId, properties });
        settle(message);
      });
    }
    return { messages: how };
  },
};

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
