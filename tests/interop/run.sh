#!/usr/bin/env bash
# Foreign peers against this repository: rhea and qpid-proton against the AMQP engine, Microsoft's packages against the
# local hub.
#
#   tests/interop/run.sh [NAME...]     all of them, or those whose name starts with NAME
#
# What cannot run prints `skipped: NAME: reason`. Exits 1 when something failed, and with IOTHUB_INTEROP_STRICT=1 also
# when something was skipped. A check more is one line at the end. Those on the hub run beside each other, in lanes:
# one lane's run one after the other.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
# The workspace, whatever the folder is called.
root=$(cd ../.. && pwd)
wanted=("$@")
passed=0 failed=0 skipped=0
scratch=$(mktemp -d)
target=${CARGO_TARGET_DIR:-$root/target}
hub_pid=
# Seconds for one check; it takes as long only when it hangs.
limit=300

cleanup() {
  # Those that still run in lanes.
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null
  stop_hub
  rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# check NAME NEEDS COMMAND...: NEEDS are functions, joined by commas, that print why they cannot be met and return 1,
# or return 2 when that is a failure.
check() {
  local name=$1 needs=$2
  shift 2
  can_run "$name" "$needs" || return 0
  echo "== $name"
  if "$@" </dev/null; then
    passed=$((passed + 1))
  else
    echo "FAILED: $name"
    failed=$((failed + 1))
  fi
}

# in_lane LANE NAME NEEDS COMMAND...: the same beside the other lanes, once `run_lanes` starts them.
in_lane() {
  local lane=$1 name=$2 needs=$3
  shift 3
  can_run "$name" "$needs" || return 0
  printf '%q ' in_lane_now "$name" "$@" >>"$scratch/lane-$lane"
  echo >>"$scratch/lane-$lane"
}

run_lanes() {
  local lane result lanes=()
  for lane in "$scratch"/lane-*; do
    [ -e "$lane" ] || return 0
    # shellcheck disable=SC1090
    (. "$lane") </dev/null &
    lanes+=($!)
  done
  wait "${lanes[@]}"
  while read -r result; do
    if [ "$result" = passed ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  done <"$scratch/results"
}

# Its output comes in one piece, and only the last of it when all went well.
in_lane_now() {
  local name=$1 started=$SECONDS log=$scratch/out-$1 result=passed limited=(timeout "$limit")
  shift
  [ "$(type -t "$1")" = function ] && limited=()
  "${limited[@]}" "$@" >"$log" 2>&1 || result=failed
  echo "$result" >>"$scratch/results"
  if [ $result = passed ]; then
    echo "== $name: $(grep -c ': ok$\|^test .* ok$' "$log") ok in $((SECONDS - started)) s"
  else
    printf '== %s\n%s\nFAILED: %s\n' "$name" "$(cat "$log")" "$name"
  fi
}

# Whether a check is to run now; says why not.
can_run() {
  local name=$1 need reason code
  is_wanted "$name" || return 1
  for need in ${2//,/ }; do
    is_met "$need" && continue
    reason=${reasons[$need]}
    code=${codes[$need]}
    if [ "$code" = 2 ]; then
      echo "FAILED: $name: $reason"
      failed=$((failed + 1))
    else
      echo "skipped: $name: $reason"
      skipped=$((skipped + 1))
    fi
    return 1
  done
}

is_wanted() {
  [ ${#wanted[@]} = 0 ] && return 0
  local prefix
  for prefix in "${wanted[@]}"; do
    [[ $1 == "$prefix"* ]] && return 0
  done
  return 1
}

# Each need is looked into once. Not in a subshell: what a need sets, the checks use.
declare -A reasons codes
is_met() {
  if [ -z "${codes[$1]:-}" ]; then
    "$1" >"$scratch/reason"
    codes[$1]=$?
    reasons[$1]=$(tail -n 1 "$scratch/reason")
  fi
  [ "${codes[$1]}" = 0 ]
}

# --- Needs

node_packages() {
  local tool
  for tool in node npm; do
    command -v $tool >/dev/null || { echo "$tool is missing"; return 1; }
  done
  [ "$(node -p 'parseInt(process.versions.node) >= 18')" = true ] || { echo "node is older than 18"; return 1; }
  is_installed node_modules package-lock.json && return 0
  twice npm ci --no-progress || { echo "npm could not install the packages: $(last_words)"; return 1; }
  mark_installed node_modules package-lock.json
}

python_environment() {
  command -v python3 >/dev/null || { echo "python3 is missing"; return 1; }
  .venv/bin/python -m pip --version >"$scratch/log" 2>&1 || python3 -m venv --clear .venv >"$scratch/log" 2>&1 ||
    { echo "python3 cannot make an environment: $(last_words)"; return 1; }
}

proton() {
  is_met python_environment || { echo "${reasons[python_environment]}"; return 1; }
  export IOTHUB_INTEROP_PYTHON=$PWD/.venv/bin/python
  pip_install requirements.txt && .venv/bin/python -c 'import proton' >"$scratch/log" 2>&1 && return 0
  # A distribution's package will do.
  IOTHUB_INTEROP_PYTHON=$(PATH=/usr/bin:$PATH command -v python3)
  "$IOTHUB_INTEROP_PYTHON" -c 'import proton' 2>/dev/null && return 0
  echo "qpid-proton could not be installed (it is built with a C compiler and OpenSSL's headers): $(last_words)"
  return 1
}

azure_iot_hub() {
  is_met python_environment || { echo "${reasons[python_environment]}"; return 1; }
  # Wanted by azure-iot-hub, for messages alone: without it the rest runs.
  is_met uamqp
  pip_install requirements-azure.txt --no-deps || { echo "azure-iot-hub could not be installed: $(last_words)"; return 1; }
}

uamqp() {
  pip_install requirements-uamqp.txt --no-deps && return 0
  echo "uamqp could not be installed (where it has no wheel it is built with CMake and OpenSSL's headers): $(last_words)"
  return 1
}

openssl_program() {
  command -v openssl >/dev/null || { echo "openssl is missing"; return 1; }
}

# The local hub on the only ports that Microsoft's packages know.
hub() {
  (cd "$root" && cargo build --quiet --bin iothub-emulator -p iothub-emulator) >"$scratch/log" 2>&1 ||
    { cat "$scratch/log" >&2; echo "the local hub does not build"; return 2; }
  mkdir -p "$scratch/hub"
  export IOTHUB_EDGE_WORKLOAD=unix://$scratch/workload.sock
  "$target/debug/iothub-emulator" --hostname localhost --https-port 443 --amqps-port 5671 \
    --state-dir "$scratch/hub" --edge-workload "$IOTHUB_EDGE_WORKLOAD" >"$scratch/ready" 2>"$scratch/hub-log" </dev/null &
  hub_pid=$!
  until grep -q '^ready' "$scratch/ready"; do
    if ! kill -0 "$hub_pid" 2>/dev/null; then
      hub_pid=
      if grep -qi 'permission denied\|in use' "$scratch/hub-log"; then
        echo "the local hub cannot have ports 443 and 5671: $(last_words hub-log)"
        return 1
      fi
      cat "$scratch/hub-log" >&2
      echo "the local hub did not start: $(last_words hub-log)"
      return 2
    fi
    sleep 0.1
  done
  set -a
  # shellcheck disable=SC1091
  . "$scratch/hub/hub.env"
  NODE_EXTRA_CA_CERTS=$IOTHUB_CA_FILE
  set +a
}

examples() {
  export IOTHUB_EXAMPLES=$target/debug/examples
  (cd "$root" && cargo build --quiet --examples) >"$scratch/log" 2>&1 && return 0
  cat "$scratch/log" >&2
  echo "the examples do not build"
  return 2
}

stop_hub() {
  [ -n "$hub_pid" ] || return 0
  kill -TERM "$hub_pid" 2>/dev/null
  wait "$hub_pid"
  local status=$?
  hub_pid=
  return $status
}

# --- Their tools

# Once more for a registry that did not answer.
twice() {
  "$@" >"$scratch/log" 2>&1 || "$@" >"$scratch/log" 2>&1
}

last_words() {
  grep -v '^[[:space:]]*$' "$scratch/${1:-log}" | tail -n 1
}

# pip_install REQUIREMENTS FLAGS...: into the environment, unless they are there.
pip_install() {
  local requirements=$1
  shift
  is_installed .venv "$requirements" && return 0
  twice .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" -r "$requirements" || return 1
  mark_installed .venv "$requirements"
}

is_installed() {
  cmp -s "$2" "$1/.installed-from-$2"
}

mark_installed() {
  cp "$2" "$1/.installed-from-$2"
}

# The ignored tests of the AMQP engine under a path; at least one must have run.
engine() {
  (cd "$root" && IOTHUB_INTEROP_DIR="$root/tests/interop" \
    cargo test -p iothub-amqp --test peers -- --ignored "$1") | tee "$scratch/engine" &&
    grep -q '^test result: ok\. [1-9]' "$scratch/engine"
}

# --- The checks

in_lane engine engine-rhea-client node_packages engine foreign_clients::rhea
in_lane engine engine-rhea-server node_packages engine foreign_servers::rhea
in_lane engine engine-proton-client proton engine foreign_clients::proton
in_lane engine engine-proton-server proton engine foreign_servers::proton

in_lane service microsoft-registry node_packages,hub node node/registry.js
in_lane service microsoft-bulk node_packages,hub node node/bulk.js
in_lane service microsoft-queries node_packages,hub node node/queries.js
in_lane service microsoft-configurations node_packages,hub node node/configurations.js
in_lane service microsoft-jobs node_packages,hub node node/jobs.js
in_lane service microsoft-http-device node_packages,hub node node/http_device.js

in_lane device microsoft-device node_packages,hub node node/device.js
in_lane device microsoft-device-websocket node_packages,hub node node/device.js --websocket
in_lane device microsoft-methods node_packages,hub node node/methods.js
in_lane device microsoft-methods-websocket node_packages,hub node node/methods.js --websocket
in_lane device microsoft-digital-twin node_packages,hub node node/digital_twin.js
in_lane device microsoft-events node_packages,hub node node/events.js
in_lane device microsoft-events-websocket node_packages,hub node node/events.js --websocket
in_lane device microsoft-x509 node_packages,openssl_program,hub node node/x509.js
in_lane device microsoft-uploads node_packages,hub node node/uploads.js
in_lane device microsoft-provisioning node_packages,openssl_program,hub node node/provisioning.js
in_lane device microsoft-x509-websocket node_packages,openssl_program,hub node node/x509.js --websocket
in_lane device microsoft-edge node_packages,hub node node/edge.js
in_lane device microsoft-edge-websocket node_packages,hub node node/edge.js --websocket

# Feedback is shared by all services: those who read it take turns.
in_lane feedback microsoft-messages node_packages,hub node node/messages.js
in_lane feedback microsoft-messages-websocket node_packages,hub node node/messages.js --websocket
in_lane feedback python-messages node_packages,azure_iot_hub,uamqp,hub .venv/bin/python python/messages.py
in_lane feedback python-messages-websocket node_packages,azure_iot_hub,uamqp,hub .venv/bin/python python/messages.py --websocket
in_lane feedback crossed node_packages,hub,examples node node/crossed.js
in_lane feedback crossed-websocket node_packages,hub,examples node node/crossed.js --websocket

in_lane python python-registry azure_iot_hub,hub .venv/bin/python python/registry.py
in_lane python python-configurations azure_iot_hub,hub .venv/bin/python python/configurations.py
in_lane python python-jobs azure_iot_hub,hub .venv/bin/python python/jobs.py
in_lane python python-methods node_packages,azure_iot_hub,hub .venv/bin/python python/methods.py
in_lane python alike node_packages,azure_iot_hub,hub,examples node node/alike.js

run_lanes
# Last of those that need the hub.
check hub-ends-cleanly hub stop_hub

if [ $((passed + failed + skipped)) = 0 ]; then
  echo "no check is called ${wanted[*]}"
  exit 1
fi
echo "interop: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && { [ "$skipped" = 0 ] || [ "${IOTHUB_INTEROP_STRICT:-0}" != 1 ]; }
