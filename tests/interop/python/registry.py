"""azure-iot-hub's registry against a hub: identities of every kind, bulk, twins, queries, statistics."""

from datetime import datetime

# First: azure-iot-hub cannot be imported before.
from support import HUB, equal, failure, identifier, key, registry, run

from azure.iot.hub.models import (
    AuthenticationMechanism,
    ExportImportDevice,
    QuerySpecification,
    SymmetricKey,
    Twin,
    TwinProperties,
    X509Thumbprint,
)

hub = registry()
device_id = identifier("device")
keys = key(), key()


def keys_of(identity):
    made = identity.authentication.symmetric_key
    return made.primary_key, made.secondary_key


def thumbprints_of(identity):
    made = identity.authentication.x509_thumbprint
    return made.primary_thumbprint, made.secondary_thumbprint


def create_with_keys():
    """create a device with given keys"""
    device = hub.create_device_with_sas(device_id, *keys, "enabled", status_reason="new")
    equal(device.device_id, device_id)
    equal(keys_of(device), keys)
    equal((device.status, device.status_reason), ("enabled", "new"))
    equal(device.connection_state, "Disconnected")
    equal(device.authentication.type, "sas")
    equal(device.capabilities.iot_edge, False)
    # Never happened: the year 1 (rest.md 1.8).
    equal(device.last_activity_time, datetime(1, 1, 1))
    failure(409, "DeviceAlreadyExists", hub.create_device_with_sas, device_id, *keys, "enabled")


def create_with_generated_keys():
    """create a device whose keys the hub makes"""
    other = identifier("device")
    made = keys_of(hub.create_device_with_sas(other, "", "", "enabled"))
    assert all(made) and made[0] != made[1], made
    equal(keys_of(hub.get_device(other)), made)
    hub.delete_device(other)


def update_with_etag():
    """update with an etag, then with that old one"""
    before = hub.get_device(device_id)
    swapped = keys[1], keys[0]
    after = hub.update_device_with_sas(device_id, before.etag, *swapped, "disabled", status_reason="resting")
    equal(keys_of(after), swapped)
    equal((after.status, after.status_reason), ("disabled", "resting"))
    equal(after.generation_id, before.generation_id)
    assert after.etag != before.etag
    stale = (device_id, before.etag, *keys, "enabled")
    failure(412, "PreconditionFailed", hub.update_device_with_sas, *stale)
    equal(hub.get_device(device_id).status, "disabled")
    hub.update_device_with_sas(device_id, None, *keys, "enabled")
    missing = identifier("nobody")
    failure(404, "DeviceNotFound", hub.update_device_with_sas, missing, None, *keys, "enabled")


def certificates():
    """devices with thumbprints and with an authority"""
    pinned, signed = identifier("pinned"), identifier("signed")
    prints = "A" * 40, "b" * 40
    device = hub.create_device_with_x509(pinned, *prints, "enabled")
    equal(device.authentication.type, "selfSigned")
    equal([text.upper() for text in thumbprints_of(device)], [text.upper() for text in prints])
    equal(keys_of(device), (None, None))
    device = hub.update_device_with_x509(pinned, device.etag, "C" * 64, "D" * 64, "enabled")
    equal([text.upper() for text in thumbprints_of(device)], ["C" * 64, "D" * 64])
    failure(400, "ArgumentInvalid", hub.create_device_with_x509, identifier("bad"), "123", "123", "enabled")

    device = hub.create_device_with_certificate_authority(signed, "enabled")
    equal(device.authentication.type, "certificateAuthority")
    device = hub.update_device_with_certificate_authority(signed, device.etag, "disabled")
    equal(device.status, "disabled")
    for one in pinned, signed:
        hub.delete_device(one)


def edge():
    """an edge device and its child"""
    parent, child = identifier("edge"), identifier("child")
    scope = hub.create_device_with_sas(parent, "", "", "enabled", iot_edge=True).device_scope
    generation = hub.get_device(parent).generation_id
    equal(scope, f"ms-azure-iot-edge://{parent}-{generation}")
    leaf = hub.create_device_with_sas(child, "", "", "enabled", device_scope=scope)
    equal((leaf.device_scope, leaf.parent_scopes), (scope, [scope]))
    equal(sorted(module.module_id for module in hub.get_modules(parent)), ["$edgeAgent", "$edgeHub"])
    for one in child, parent:
        hub.delete_device(one)


def bad_identities():
    """bad ids and keys"""
    failure(400, "ArgumentInvalid", hub.create_device_with_sas, "no spaces", "", "", "enabled")
    failure(400, "ArgumentInvalid", hub.create_device_with_sas, "x" * 129, "", "", "enabled")
    failure(400, "ArgumentInvalid", hub.create_device_with_sas, identifier("short"), "c2hvcnQ=", "c2hvcnQ=", "enabled")
    failure(400, "ArgumentInvalid", hub.create_device_with_sas, identifier("one"), key(), "", "enabled")


def modules():
    """modules with every kind of authentication"""
    module = hub.create_module_with_sas(device_id, "sas", "somebody", *keys)
    equal((module.device_id, module.module_id, module.managed_by), (device_id, "sas", "somebody"))
    equal(keys_of(module), keys)
    again = (device_id, "sas", "somebody", *keys)
    failure(409, "ModuleAlreadyExistsOnDevice", hub.create_module_with_sas, *again)
    hub.create_module_with_x509(device_id, "x509", None, "E" * 40, "F" * 40)
    equal(hub.get_module(device_id, "x509").authentication.type, "selfSigned")
    hub.create_module_with_certificate_authority(device_id, "ca", None)
    equal(sorted(module.module_id for module in hub.get_modules(device_id)), ["ca", "sas", "x509"])

    updated = hub.update_module_with_sas(device_id, "sas", "nobody", module.etag, *reversed(keys))
    equal(updated.managed_by, "nobody")
    equal(keys_of(updated), tuple(reversed(keys)))
    stale = (device_id, "sas", "nobody", module.etag, *keys)
    failure(412, "PreconditionFailed", hub.update_module_with_sas, *stale)
    hub.update_module_with_x509(device_id, "x509", None, None, "1" * 64, "2" * 64)
    signed = hub.update_module_with_certificate_authority(device_id, "sas", None, "*")
    equal(signed.authentication.type, "certificateAuthority")

    failure(412, "PreconditionFailed", hub.delete_module, device_id, "x509", "c3RhbGU=")
    for one in "x509", "ca":
        hub.delete_module(device_id, one)
    failure(404, "ModuleNotFound", hub.get_module, device_id, "ca")
    failure(404, "DeviceNotFound", hub.get_module, identifier("nobody"), "ca")
    equal([module.module_id for module in hub.get_modules(device_id)], ["sas"])


def twins():
    """a twin: update, replace, etags"""
    twin = hub.get_twin(device_id)
    equal((twin.device_id, twin.properties.desired["$version"]), (device_id, 1))
    patch = Twin(tags={"site": "north", "floor": 2}, properties=TwinProperties(desired={"rate": 5, "on": True}))
    patched = hub.update_twin(device_id, patch, twin.etag)
    equal(patched.tags, {"site": "north", "floor": 2})
    desired = patched.properties.desired
    equal((desired["rate"], desired["on"], desired["$version"]), (5, True, 2))
    failure(412, "PreconditionFailed", hub.update_twin, device_id, patch, twin.etag)
    # msrest leaves nulls in a dictionary alone.
    patched = hub.update_twin(device_id, Twin(tags={"floor": None}))
    equal(patched.tags, {"site": "north"})
    equal(patched.properties.desired["$version"], 2)
    whole = Twin(tags={"floor": 3}, properties=TwinProperties(desired={"mode": "eco"}))
    replaced = hub.replace_twin(device_id, whole, patched.etag)
    equal(replaced.tags, {"floor": 3})
    desired = {name: value for name, value in replaced.properties.desired.items() if name[0] != "$"}
    equal(desired, {"mode": "eco"})
    equal(replaced.properties.desired["$version"], 3)
    failure(412, "PreconditionFailed", hub.replace_twin, device_id, whole, patched.etag)
    failure(404, "DeviceNotFound", hub.get_twin, identifier("nobody"))
    failure(400, "ArgumentInvalid", hub.update_twin, device_id, Twin(tags={"a.b": 1}))


def module_twins():
    """the same for the twin of a module"""
    twin = hub.get_module_twin(device_id, "sas")
    equal((twin.device_id, twin.module_id), (device_id, "sas"))
    patch = Twin(properties=TwinProperties(desired={"a": {"b": [1, "x", [2.5]]}}))
    patched = hub.update_module_twin(device_id, "sas", patch, twin.etag)
    equal(patched.properties.desired["a"], {"b": [1, "x", [2.5]]})
    failure(412, "PreconditionFailed", hub.update_module_twin, device_id, "sas", patch, twin.etag)
    replaced = hub.replace_module_twin(device_id, "sas", Twin(properties=TwinProperties(desired={"c": "d"})))
    assert "a" not in replaced.properties.desired
    equal(replaced.properties.desired["c"], "d")
    failure(404, "ModuleNotFound", hub.get_module_twin, device_id, "nobody")


def bulk():
    """bulk: create, update, delete, and a part of it wrong"""
    fleet = [identifier("bulk") for _ in range(5)]
    own = AuthenticationMechanism(type="sas", symmetric_key=SymmetricKey(primary_key=keys[0], secondary_key=keys[1]))
    pinned = AuthenticationMechanism(
        type="selfSigned", x509_thumbprint=X509Thumbprint(primary_thumbprint="9" * 40, secondary_thumbprint="8" * 40)
    )

    def item(one, mode, **more):
        return ExportImportDevice(id=one, import_mode=mode, status=more.pop("status", "enabled"), **more)

    made = [item(one, "create", authentication=own if one != fleet[4] else pinned) for one in fleet]
    result = hub.bulk_create_or_update_devices(made)
    equal((result.is_successful, result.errors), (True, []))
    equal(keys_of(hub.get_device(fleet[0])), keys)
    equal(hub.get_device(fleet[4]).authentication.type, "selfSigned")

    # One that exists beside one that is new: the good one is done.
    extra = identifier("bulk")
    both = [item(one, "create", authentication=own) for one in (fleet[0], extra)]
    result = hub.bulk_create_or_update_devices(both)
    equal(result.is_successful, False)
    equal([(error.device_id, error.error_code) for error in result.errors], [(fleet[0], "409001")])
    equal(hub.get_device(extra).status, "enabled")

    disabled = [item(one, "update", authentication=own, status="disabled") for one in fleet[:3]]
    result = hub.bulk_create_or_update_devices(disabled)
    equal(result.is_successful, True)
    equal([hub.get_device(one).status for one in fleet[:4]], ["disabled"] * 3 + ["enabled"])
    result = hub.bulk_create_or_update_devices([item(fleet[0], "deleteIfMatchETag", e_tag="c3RhbGU=")])
    equal((result.is_successful, result.errors[0].device_id), (False, fleet[0]))
    result = hub.bulk_create_or_update_devices([item(one, "delete") for one in [*fleet, extra]])
    equal(result.is_successful, True)
    failure(404, "DeviceNotFound", hub.get_device, fleet[0])


def queries():
    """queries: pages, projections, a wrong one"""
    site = identifier("site")
    fleet = sorted(identifier("queried") for _ in range(7))
    for number, one in enumerate(fleet):
        hub.create_device_with_sas(one, "", "", "enabled")
        hub.update_twin(one, Twin(tags={"site": site, "number": number}))
    of_site = f"FROM devices WHERE tags.site = '{site}'"
    text = QuerySpecification(query=f"SELECT * {of_site}")
    found, sizes, continuation = [], [], None
    while True:
        page = hub.query_iot_hub(text, continuation, 3)
        equal(page.type, "Twin")
        found += [twin.device_id for twin in page.items]
        sizes.append(len(page.items))
        continuation = page.continuation_token
        if not continuation:
            break
    equal(sorted(found), fleet)
    equal(sizes, [3, 3, 1])
    whole = hub.query_iot_hub(text)
    equal((len(whole.items), whole.continuation_token), (7, None))
    equal(whole.items[0].tags["site"], site)
    # The package makes every row a Twin; what is none of its fields is in `additional_properties`.
    count = hub.query_iot_hub(QuerySpecification(query=f"SELECT COUNT() AS n {of_site}"))
    equal((count.type, count.items[0].additional_properties), ("Raw", {"n": 7}))
    one = hub.query_iot_hub(QuerySpecification(query=f"SELECT deviceId {of_site} AND tags.number = 4"))
    equal([row.device_id for row in one.items], [fleet[4]])
    failure(400, "ArgumentInvalid", hub.query_iot_hub, QuerySpecification(query="SELECT * FORM devices"))
    for one in fleet:
        hub.delete_device(one)


def statistics():
    """lists and statistics"""
    before = hub.get_device_registry_statistics()
    other = identifier("counted")
    hub.create_device_with_sas(other, "", "", "disabled")
    after = hub.get_device_registry_statistics()
    # Other scripts create devices meanwhile.
    assert after.disabled_device_count >= 1 and before.total_device_count >= 1
    equal(after.total_device_count, after.enabled_device_count + after.disabled_device_count)
    equal(len(hub.get_devices(1)), 1)
    assert other in [device.device_id for device in hub.get_devices()]
    assert hub.get_service_statistics().connected_device_count >= 0
    hub.delete_device(other)


def unauthorized():
    """a wrong policy key"""
    wrong = registry(HUB.rpartition("SharedAccessKey=")[0] + "SharedAccessKey=" + key())
    failure(401, "IotHubUnauthorizedAccess", wrong.get_device, device_id)


def delete():
    """delete with a wrong etag, then a right one"""
    failure(412, "PreconditionFailed", hub.delete_device, device_id, "c3RhbGU=")
    hub.delete_device(device_id, hub.get_device(device_id).etag)
    failure(404, "DeviceNotFound", hub.get_device, device_id)
    failure(404, "DeviceNotFound", hub.delete_device, device_id)


run("python registry", [
    create_with_keys, create_with_generated_keys, update_with_etag, certificates, edge, bad_identities, modules, twins,
    module_twins, bulk, queries, statistics, unauthorized, delete,
])
