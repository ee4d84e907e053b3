// A module client on azure-iot-device that other programs steer: `node node_module.js`, with the module in
// IOTHUB_MODULE_CONNECTION_STRING. It prints JSON lines:
//
//   {"twin": {"desired": …, "reported": …}}   once it is connected
//   {"desired": …}                            for each update; the first is the state at subscription
//   {"listening": true}                       no update can be missed from here on; it has reported `listening: true`
//   {"reported": true}, {"sent": true} or {"error": "…"}   for each command
//
// and reads commands as JSON lines: {"report": PATCH}, {"send": TEXT}, {"close": true}. It also ends with its input.
'use strict';

const { createInterface } = require('node:readline');
const { Client, Message } = require('azure-iot-device');
const { Amqp } = require('azure-iot-device-amqp');
const { promise } = require('./support.js');

const print = (value) => console.log(JSON.stringify(value));

async function main() {
  const client = Client.fromConnectionString(process.env.IOTHUB_MODULE_CONNECTION_STRING, Amqp);
  await client.open();
  const twin = await client.getTwin();
  const { desired, reported } = JSON.parse(JSON.stringify(twin.properties));
  print({ twin: { desired, reported } });
  const report = (patch) => promise((done) => twin.properties.reported.update(patch, done));
  twin.on('properties.desired', (update) => print({ desired: update }));
  // `on` subscribes and does not say when that is done; what is sent after it is answered after it.
  await report({ listening: true });
  print({ listening: true });

  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.close) break;
    try {
      if (command.report) {
        await report(command.report);
        print({ reported: true });
      } else {
        await client.sendEvent(new Message(command.send));
        print({ sent: true });
      }
    } catch (error) {
      print({ error: `${error.name}: ${error.message}` });
    }
  }
  await client.close();
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
