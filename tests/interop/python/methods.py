"""azure-iot-hub's direct methods and digital twins against a hub, with a device on azure-iot-device."""

import json

# First: azure-iot-hub cannot be imported before.
from support import HUB, equal, failure, identifier, registry, run

from azure.iot.hub import DigitalTwinClient
from azure.iot.hub.models import CloudToDeviceMethod

from node_client import NodeClient

hub = registry()
twins = DigitalTwinClient.from_connection_string(HUB)
device = hub.create_device_with_sas(identifier("device"), "", "", "enabled")
device_id = device.device_id


def method(name, payload=None, connect=30, response=30):
    return CloudToDeviceMethod(
        method_name=name,
        payload=payload,
        connect_timeout_in_seconds=connect,
        response_timeout_in_seconds=response,
    )


def code(error):
    """The hub's error code: the body is an error in an error (rest.md 2.1)."""
    return json.loads(error.response.json()["Message"])["errorCode"]


def of_a_device():
    """of a device"""
    with NodeClient(device) as client:
        client.command(method="echo", status=207)
        client.says({"method": "echo"})
        for payload in {"a": [1, 2.5, None, "ü"]}, [], "text", 42, True:
            answer = hub.invoke_device_method(device_id, method("echo", payload))
            equal((answer.status, answer.payload), (207, payload))
            client.says({"called": "echo", "payload": payload})
        # The package makes no payload an empty text.
        equal(hub.invoke_device_method(device_id, method("echo")).payload, "")


def of_a_module():
    """of a module"""
    module = hub.create_module_with_sas(device_id, "m", None, "", "")
    with NodeClient(module) as client:
        client.command(method="echo")
        client.says({"method": "echo"})
        answer = hub.invoke_device_module_method(device_id, "m", method("echo", {"n": 1}))
        equal((answer.status, answer.payload), (200, {"n": 1}))


def errors():
    """nobody there: unknown and offline are told apart"""
    unknown = failure(404, "DeviceNotFound", hub.invoke_device_method, identifier("nobody"), method("echo"))
    equal(code(unknown), 404001)
    unknown = failure(404, "ModuleNotFound", hub.invoke_device_module_method, device_id, "nobody", method("echo"))
    equal(code(unknown), 404010)
    offline = failure(404, "DeviceNotOnline", hub.invoke_device_method, device_id, method("echo", connect=0))
    equal(code(offline), 404103)
    failure(400, "ArgumentInvalid", hub.invoke_device_method, device_id, method("echo", response=301))


def digital_twin():
    """a digital twin: what the device reports, what is desired, commands"""
    with NodeClient(device) as client:
        client.command(report={"serialNumber": "S1", "sensor": {"__t": "c", "unit": "C"}})
        client.says({"reported": True})
        document = twins.get_digital_twin(device_id)
        equal((document["$dtId"], document["serialNumber"]), (device_id, "S1"))
        equal(document["sensor"]["unit"], "C")
        twins.update_digital_twin(device_id, [{"op": "add", "path": "/target", "value": 21.5}])
        equal(hub.get_twin(device_id).properties.desired["target"], 21.5)

        client.command(method="reboot")
        client.says({"method": "reboot"})
        equal(twins.invoke_command(device_id, "reboot", {"after": 5}, 30, 30), {"after": 5})
        client.says({"called": "reboot", "payload": {"after": 5}})
        client.command(method="sensor*calibrate")
        client.says({"method": "sensor*calibrate"})
        equal(twins.invoke_component_command(device_id, "sensor", "calibrate", "zero", 30, 30), "zero")
    failure(404, "DeviceNotFound", twins.get_digital_twin, identifier("nobody"))


run("python methods", [of_a_device, of_a_module, errors, digital_twin])
