"""azure-iot-hub asked by other programs: `ask.py create DEVICE MODULE` makes both, `ask.py query TEXT` prints the rows as
one line of JSON."""

import json
import sys

# First: azure-iot-hub cannot be imported before.
from support import registry

from azure.iot.hub.models import QuerySpecification

hub = registry()
if sys.argv[1] == "create":
    device_id, module_id = sys.argv[2:]
    hub.create_device_with_sas(device_id, "", "", "enabled")
    hub.create_module_with_sas(device_id, module_id, None, "", "")
elif sys.argv[1] == "query":
    # What the hub said, not what the package makes of it.
    raw = hub.protocol.query.get_twins(QuerySpecification(query=sys.argv[2]), raw=True)
    print(json.dumps(raw.response.json()))
else:
    sys.exit(__doc__)
