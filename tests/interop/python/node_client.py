"""`node/node_client.js` as the device: a client on azure-iot-device that the scripts steer."""

import json
import os
import subprocess
from pathlib import Path

from support import HUB

HELPER = Path(__file__).parent.parent / "node" / "node_client.js"


def device_text(identity):
    """The connection string of an identity as the registry gave it."""
    module = f";ModuleId={identity.module_id}" if hasattr(identity, "module_id") else ""
    host = HUB.split(";")[0]
    key = identity.authentication.symmetric_key.primary_key
    return f"{host};DeviceId={identity.device_id}{module};SharedAccessKey={key}"


class NodeClient:
    """Connected once made; to be used in a `with`."""

    def __init__(self, identity):
        environment = {
            **os.environ,
            "IOTHUB_CLIENT_CONNECTION_STRING": device_text(identity),
            "NODE_EXTRA_CA_CERTS": os.environ["IOTHUB_CA_FILE"],
        }
        self.process = subprocess.Popen(
            ["node", str(HELPER)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.says({"open": True})

    def line(self):
        line = self.process.stdout.readline()
        assert line, "the Node client ended without another line"
        return json.loads(line)

    def says(self, expected):
        found = self.line()
        assert found == expected, f"{found} is not {expected}"

    def command(self, **value):
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # It ends with its input.
        self.process.stdin.close()
        assert self.process.wait() == 0
