"""azure-iot-hub sends to a device on azure-iot-device over AMQP, and reads the feedback over HTTPS.

Alone on its hub with that: all services share one queue of feedback."""

import json
import sys
import time

# First: azure-iot-hub cannot be imported before.
from support import HUB, equal, identifier, registry, run

from azure.iot.hub import IoTHubHttpRuntimeManager

from node_client import NodeClient

hub = registry(websocket="--websocket" in sys.argv)
runtime = IoTHubHttpRuntimeManager.from_connection_string(HUB)
device = hub.create_device_with_sas(identifier("device"), "", "", "enabled")
device_id = device.device_id


def feedback():
    """The next feedback and its lock. The hub may take its time; whoever runs this limits it."""
    while True:
        # The package's own call returns nothing of what it got.
        raw = runtime.protocol.cloud_to_device_messages.receive_feedback_notification(raw=True)
        if raw.response.status_code == 200:
            return json.loads(raw.response.text), raw.response.headers["ETag"].strip('"')
        time.sleep(0.1)


def arrives():
    """a message with its properties"""
    properties = {
        "messageId": "p-1", "correlationId": "c-1", "contentType": "application/json", "contentEncoding": "utf-8",
        "iothub-ack": "full", "level": "high",
    }
    hub.send_c2d_message(device_id, json.dumps({"text": "ü"}), properties)
    with NodeClient(device) as client:
        client.command(messages="complete")
        client.says({"messages": "complete"})
        client.says({"message": json.dumps({"text": "ü"}), "id": "p-1", "properties": {"level": "high"}})
        records, lock = feedback()
        equal([(record["originalMessageId"], record["statusCode"]) for record in records], [("p-1", "Success")])
        runtime.abandon_feedback_notification(lock)
        records, lock = feedback()
        equal(records[0]["originalMessageId"], "p-1")
        runtime.complete_feedback_notification(lock)


def rejected():
    """a rejected message"""
    with NodeClient(device) as client:
        client.command(messages="reject")
        client.says({"messages": "reject"})
        hub.send_c2d_message(device_id, "no", {"messageId": "p-2", "iothub-ack": "negative"})
        client.says({"message": "no", "id": "p-2", "properties": {}})
        records, lock = feedback()
        equal((records[0]["originalMessageId"], records[0]["statusCode"]), ("p-2", "Rejected"))
        runtime.complete_feedback_notification(lock)


def refused():
    """a device that is not there"""
    try:
        hub.send_c2d_message(identifier("nobody"), "x")
    except Exception as error:  # noqa: BLE001
        equal(str(error), "C2D message send failure")
    else:
        raise AssertionError("the hub took a message for nobody")


run("python messages", [arrives, rejected, refused])
