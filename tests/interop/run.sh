#!/usr/bin/env bash
# Foreign peers against this repository: rhea and qpid-proton against the AMQP engine, Microsoft's packages against the
# local hub.
#
#   tests/interop/run.sh [NAME...]     all of them, or those whose name starts with NAME
#
# What cannot run prints `skipped: NAME: reason`. Exits 1 when something failed, and with IOTHUB_INTEROP_STRICT=1 also
# when something was skipped. A check more is one line at the end.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
# The workspace, whatever the folder is called.
root=$(cd ../.. && pwd)
wanted=("$@")
passed=0 failed=0 skipped=0
scratch=$(mktemp -d)
hub_pid=

cleanup() {
  stop_hub
  rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# check NAME NEEDS COMMAND...: NEEDS are functions, joined by commas, that print why they cannot be met and return 1,
# or return 2 when that is a failure.
check() {
  local name=$1 needs=$2 need reason code
  shift 2
  is_wanted "$name" || return 0
  for need in ${needs//,/ }; do
    if ! is_met "$need"; then
      reason=${reasons[$need]}
      code=${codes[$need]}
      if [ "$code" = 2 ]; then
        echo "FAILED: $name: $reason"
        failed=$((failed + 1))
      else
        echo "skipped: $name: $reason"
        skipped=$((skipped + 1))
      fi
      return 0
    fi
  done
  echo "== $name"
  if "$@" </dev/null; then
    passed=$((passed + 1))
  else
    echo "FAILED: $name"
    failed=$((failed + 1))
  fi
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

proton() {
  command -v python3 >/dev/null || { echo "python3 is missing"; return 1; }
  export IOTHUB_INTEROP_PYTHON=$PWD/.venv/bin/python
  is_installed .venv requirements.txt && return 0
  if python3 -m venv --clear .venv >"$scratch/log" 2>&1 &&
    twice .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt &&
    .venv/bin/python -c 'import proton' >"$scratch/log" 2>&1; then
    mark_installed .venv requirements.txt
    return 0
  fi
  # A distribution's package will do.
  IOTHUB_INTEROP_PYTHON=$(PATH=/usr/bin:$PATH command -v python3)
  "$IOTHUB_INTEROP_PYTHON" -c 'import proton' 2>/dev/null && return 0
  echo "qpid-proton could not be installed (it is built with a C compiler and OpenSSL's headers): $(last_words)"
  return 1
}

# The local hub on the only ports that Microsoft's packages know.
hub() {
  (cd "$root" && cargo build --quiet --bin iothub-emulator -p iothub-emulator) >"$scratch/log" 2>&1 ||
    { cat "$scratch/log" >&2; echo "the local hub does not build"; return 2; }
  mkdir -p "$scratch/hub"
  # `exec` and cargo's own keep the process id the hub's.
  (cd "$root" && exec cargo run --quiet --bin iothub-emulator -p iothub-emulator -- \
    --hostname localhost --https-port 443 --amqps-port 5671 --state-dir "$scratch/hub") \
    >"$scratch/ready" 2>"$scratch/log" </dev/null &
  hub_pid=$!
  until grep -q '^ready' "$scratch/ready"; do
    if ! kill -0 "$hub_pid" 2>/dev/null; then
      hub_pid=
      if grep -qi 'permission denied\|in use' "$scratch/log"; then
        echo "the local hub cannot have ports 443 and 5671: $(last_words)"
        return 1
      fi
      cat "$scratch/log" >&2
      echo "the local hub did not start: $(last_words)"
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
  grep -v '^[[:space:]]*$' "$scratch/log" | tail -n 1
}

is_installed() {
  cmp -s "$2" "$1/.installed-from"
}

mark_installed() {
  cp "$2" "$1/.installed-from"
}

# The ignored tests of the AMQP engine under a path; at least one must have run.
engine() {
  (cd "$root" && IOTHUB_INTEROP_DIR="$root/tests/interop" \
    cargo test --quiet -p iothub-amqp --test peers -- --ignored "$1") | tee "$scratch/out" &&
    grep -q '^test result: ok\. [1-9]' "$scratch/out"
}

# --- The checks

check engine-rhea-client node_packages engine foreign_clients::rhea
check engine-rhea-server node_packages engine foreign_servers::rhea
check engine-proton-client proton engine foreign_clients::proton
check engine-proton-server proton engine foreign_servers::proton
check microsoft-registry node_packages,hub node node/registry.js
check microsoft-device node_packages,hub node node/device.js
check crossed node_packages,hub,examples node node/crossed.js
# Last of those that need the hub.
check hub-ends-cleanly hub stop_hub

if [ $((passed + failed + skipped)) = 0 ]; then
  echo "no check is called ${wanted[*]}"
  exit 1
fi
echo "interop: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && { [ "$skipped" = 0 ] || [ "${IOTHUB_INTEROP_STRICT:-0}" != 1 ]; }
