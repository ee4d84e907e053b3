"""azure-iot-hub's configurations against a hub: kept, tested, targeted, and applied to one edge device."""

# First: azure-iot-hub cannot be imported before.
from support import HUB, equal, failure, identifier, registry, run

from azure.iot.hub import IoTHubConfigurationManager
from azure.iot.hub.models import (
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    ConfigurationQueriesTestInput,
    Twin,
)

hub = registry()
configurations = IoTHubConfigurationManager.from_connection_string(HUB)
site = identifier("site")
one = identifier("configuration")
target = identifier("target")


def prepare():
    """a device that it will target: the hub looks at all devices when a configuration comes"""
    hub.create_device_with_sas(target, "", "", "enabled")
    hub.update_twin(target, Twin(tags={"site": site}))


def create():
    """create, get, list"""
    wanted = Configuration(
        id=one,
        schema_version="1.0",
        labels={"owner": "me"},
        content=ConfigurationContent(device_content={"properties.desired.camera": {"rate": 5}}),
        target_condition=f"tags.site = '{site}'",
        priority=7,
        metrics=ConfigurationMetrics(queries={"all": "SELECT deviceId FROM devices"}),
    )
    made = configurations.create_configuration(wanted)
    equal((made.id, made.labels, made.priority), (one, {"owner": "me"}, 7))
    assert made.etag and made.created_time_utc and made.last_updated_time_utc
    failure(409, "ConfigurationAlreadyExists", configurations.create_configuration, wanted)
    read = configurations.get_configuration(one)
    equal(read.content.device_content, {"properties.desired.camera": {"rate": 5}})
    assert one in [other.id for other in configurations.get_configurations()]
    equal(len(configurations.get_configurations(1)), 1)
    failure(404, "ConfigurationNotFound", configurations.get_configuration, identifier("nothing"))


def targets():
    """it reaches the device that it targets"""
    equal(hub.get_twin(target).properties.desired["camera"], {"rate": 5})


def update():
    """update with its etag, then with that old one"""
    read = configurations.get_configuration(one)
    old = read.etag
    read.labels, read.priority = {"owner": "you"}, 9
    updated = configurations.update_configuration(read, f'"{old}"')
    equal((updated.labels, updated.priority), ({"owner": "you"}, 9))
    failure(412, "PreconditionFailed", configurations.update_configuration, read, f'"{old}"')
    updated.content = ConfigurationContent(device_content={"properties.desired.camera": {"rate": 6}})
    failure(400, "CannotModifyImmutableConfigurationContent", configurations.update_configuration, updated, '"*"')


def queries():
    """test queries"""

    def test(condition, query):
        asked = ConfigurationQueriesTestInput(target_condition=condition, custom_metric_queries={"all": query})
        return configurations.test_configuration_queries(asked)

    good = test("tags.site = 'x'", "SELECT deviceId FROM devices")
    assert not good.target_condition_error and not any((good.custom_metric_query_errors or {}).values())
    bad = test("tags.site === 'x'", "SELECT FROM")
    assert bad.target_condition_error and bad.custom_metric_query_errors["all"]


def apply():
    """apply content to one edge device"""
    edge = identifier("edge")
    hub.create_device_with_sas(edge, "", "", "enabled", iot_edge=True)
    desired = {"schemaVersion": "1.1", "modules": {"filter": {"type": "docker"}}}
    content = ConfigurationContent(
        modules_content={"$edgeAgent": {"properties.desired": desired}, "filter": {"properties.desired.threshold": 25}}
    )
    configurations.apply_configuration_on_edge_device(edge, content)
    equal(sorted(module.module_id for module in hub.get_modules(edge)), ["$edgeAgent", "$edgeHub", "filter"])
    equal(hub.get_module_twin(edge, "$edgeAgent").properties.desired["modules"], desired["modules"])
    equal(hub.get_module_twin(edge, "filter").properties.desired["threshold"], 25)


def delete():
    """delete"""
    configurations.delete_configuration(one, '"*"')
    failure(404, "ConfigurationNotFound", configurations.get_configuration, one)


run("python configurations", [prepare, create, targets, update, queries, apply, delete])
