"""What the scripts for azure-iot-hub share. The hub is in the environment, as `hub.env` has it:
IOTHUB_CONNECTION_STRING, and IOTHUB_CA_FILE for its authority."""

import base64
import os
import sys
import traceback
import uuid
from unittest import mock

HUB = os.environ["IOTHUB_CONNECTION_STRING"]
# Where `requests` looks for authorities.
os.environ["REQUESTS_CA_BUNDLE"] = os.environ["IOTHUB_CA_FILE"]

try:
    import certifi

    # uamqp trusts this file and no other.
    certifi.where = lambda: os.environ["IOTHUB_CA_FILE"]
    import uamqp
except ImportError:
    # azure-iot-hub cannot be imported without; only its AMQP half uses it.
    uamqp = sys.modules["uamqp"] = mock.MagicMock()

from azure.iot.hub import IoTHubRegistryManager  # noqa: E402
from msrest.exceptions import HttpOperationError  # noqa: E402


def registry(text=HUB, websocket=False):
    """Its messages go through port 443 as well, if that is asked for."""
    transport = uamqp.TransportType.AmqpOverWebsocket if websocket else uamqp.TransportType.Amqp
    return IoTHubRegistryManager.from_connection_string(text, transport)


def identifier(what):
    return f"{what}-{uuid.uuid4()}"


def key():
    return base64.b64encode(os.urandom(32)).decode()


def failure(status, code, call, *arguments):
    """The error that a call must end with, by HTTP status and the hub's name for it."""
    try:
        call(*arguments)
    except HttpOperationError as error:
        found = error.response.status_code, error.response.headers.get("iothub-errorcode")
        assert found == (status, code), f"{found}: {error.response.text}"
        return error
    raise AssertionError(f"{status} {code} was expected, the call went well")


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def run(what, cases):
    """Runs functions in order, their first line of documentation as name, and ends the process with 0 or 1."""
    for case in cases:
        name = case.__doc__.strip().splitlines()[0]
        try:
            case()
        except Exception:  # noqa: BLE001
            traceback.print_exc()
            print(f"{what}: {name}: failed", file=sys.stderr)
            sys.exit(1)
        print(f"{what}: {name}: ok", flush=True)
