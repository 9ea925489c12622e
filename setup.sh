#!/usr/bin/env bash
# Everything Easel does from the command line: run it here, test it. Linux and macOS, bash 3.2 on.
set -euo pipefail
# A relative PYTHON is meant from where the script is started.
case ${PYTHON:-} in
  /*) ;;
  */*) PYTHON=$PWD/$PYTHON ;;
esac
CDPATH='' cd -- "$(dirname -- "$0")"

usage() {
  cat <<'HELP'
Easel: your own text-to-image URL.

  ./setup.sh run [OPTIONS]   run Easel on this machine: the gateway, and an emulated AWS with a
                             real diffusers model behind it; prints the URL when it is ready.
                             `./setup.sh run --help` lists the options and the ports.
  ./setup.sh test            run the linters, mypy and the tests; takes about nine minutes
  ./setup.sh test --all      also run the slowest tests and those that need other libraries or
                             programs, and try more random examples and interruptions
  ./setup.sh test ARGS       pass ARGS to pytest, without the linters; --all can come first
  ./setup.sh deploy [OPTIONS]   put Easel on AWS and print its URL; asks before it costs anything
  ./setup.sh destroy [OPTIONS]  delete all of it, and verify that nothing is left
  ./setup.sh prove [OPTIONS]    try all of it on AWS for at most 3 USD (--most), and delete it
  ./setup.sh install         only install what `run` needs

Requires Python 3.11 or newer. Python packages are installed into .venv, and those of the tests'
other environments into .cache. As root on Debian, `test` also installs Chromium and Firefox, and
--all WebKit, Buildah, Podman, Java and nginx; elsewhere, tests of a missing program are skipped.

Environment:
  PYTHON     the Python to make .venv with (else the first of python3.11 ... python3 that will do)

An interrupted installation is repeated at the next start.
HELP
}

say() { printf '%s\n' "easel: $*" >&2; }
fail() { say "$*"; exit 1; }

# --- Side by side ----------------------------------------------------------------------------

# The commands that were started and not waited for, by the number of their process group.
started=

# Run a command beside this script. `set -m` puts it into a process group of its own, through
# which it is ended together with everything that it starts.
start() {
  set -m
  ( set +m; "$@" ) < /dev/null &
  set +m
  started="$started $!"
}

# Wait for all that was started; fails if one of them did.
finish() {
  local group failed=0
  for group in $started; do
    wait "$group" || failed=$?
  done
  started=
  return "$failed"
}

# Run a command and wait for it. A signal to this script ends it at once: without `start`, bash
# would first let it come to its end, or leave it running.
step() {
  start "$@"
  finish
}

# End what is still running, and this script with the status $1. Servers and browsers get ten
# seconds to close.
end_all() {
  local group groups waited=0
  trap '' INT TERM HUP
  groups=$(jobs -p)  # which, unlike $started, knows a command from its first moment
  for group in $groups; do kill -TERM -- "-$group" 2>/dev/null || true; done
  for group in $groups; do
    while [ "$waited" -lt 100 ] && kill -0 -- "-$group" 2>/dev/null; do
      sleep 0.1
      waited=$((waited + 1))
    done
    kill -KILL -- "-$group" 2>/dev/null || true
  done
  exit "$1"
}

# --- Python and packages ---------------------------------------------------------------------

# Print whether the Python $1 is new enough, and its version; fails if it is no Python.
describe_python() {
  "$1" -c 'import sys; print(sys.version_info >= (3, 11), "%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# 3.11 first: an index with builds of torch for CPUs often has them for one version of Python only,
# and the build for GPUs is several gigabytes larger. Lambda runs 3.11 until 30 June 2027; a
# deployment with a newer one: PYTHON=python3.13.
find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    case $(describe_python "$PYTHON") in
      True\ *) printf '%s' "$PYTHON" ;;
      False\ *) fail "PYTHON=$PYTHON is older than Python 3.11; name a newer one, or none" ;;
      *) fail "PYTHON=$PYTHON cannot be run as a Python; name another one, or none" ;;
    esac
    return
  fi
  for candidate in python3.11 python3.12 python3.13 python3.14 python3; do
    case $(describe_python "$candidate") in
      True\ *) printf '%s' "$candidate"; return ;;
    esac
  done
  fail "no Python 3.11 or newer found; install one, or name it: PYTHON=/path/to/python3 ./setup.sh"
}

# Wait until no other start installs into the environment $2, and keep others waiting from then on.
# The open file holds the lock: it ends with this script and with all that the script started, also
# where they are killed. macOS has no command `flock`, so the Python $1 locks it.
lock() {
  mkdir -p .cache
  exec 9> ".cache/$(basename "$2").lock"
  "$1" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("easel: waiting for another start, which is installing", file=sys.stderr, flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks
'
}

unlock() { exec 9>&-; }

# Whether the environment $1 was made to its end, and nothing was interrupted in it since. The stamps
# are written last, and `venv` is not done when bin/python exists.
is_whole() {
  [ ! -e "$1/.installing" ] && ls "$1"/.installed* >/dev/null 2>&1 &&
    "$1/bin/python" -c '' 2>/dev/null
}

# Make the environment $2 with the Python $1; what was there is deleted. The pip that comes with an
# older Python takes half as long again to install everything; chalice 1.34 asks for one older than
# 26.3.
make_environment() {
  rm -f "$2"/.installed*
  "$1" -m venv --clear "$2" ||
    fail "$1 could not make $2; on Debian and Ubuntu, install the package python3-venv"
  pip_install "$2" --upgrade 'pip<26.3'
}

# Install what the arguments after $1, an environment, name. Compiling every module of torch and its
# like takes longer than compiling those that are used.
pip_install() {
  local environment=$1 log=$1/pip.log status=0
  shift
  touch "$environment/.installing"
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$@" \
    > "$log" 2>&1 || status=$?
  if [ "$status" = 0 ]; then
    rm -f "$environment/.installing"
    return
  fi
  if grep -qE 'ConnectionError|Connection to .* failed|resolution|Timeout|ProxyError' "$log"; then
    rm -f "$environment/.installing"  # pip fetches everything before it changes anything
    fail "pip could not reach its package index: connect this machine to it, and start again" \
      "($log has the details)"
  fi
  grep '^ERROR' "$log" >&2 || tail -n 5 "$log" >&2
  fail "pip could not install what is needed; $log has the details"
}

# Install the requirements of one purpose unless this very set is installed already.
install_for() {
  local purpose=$1 wanted stamp=.venv/.installed-$1
  shift
  wanted=$(cat "$@" | cksum)
  has_stamp "$stamp" "$wanted" && return
  lock .venv/bin/python .venv
  if ! has_stamp "$stamp" "$wanted"; then
    say "installing what '$purpose' needs into .venv (the first time takes a few minutes)"
    pip_install .venv -r "$1"
    printf '%s' "$wanted" > "$stamp"
  fi
  unlock
}

has_stamp() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }

make_venv() {
  [ -z "${PYTHON:-}" ] || find_python >/dev/null
  is_whole .venv && return
  local python
  python=$(find_python)
  lock "$python" .venv
  if ! is_whole .venv; then
    say "making .venv with $python"
    make_environment "$python" .venv
    touch .venv/.installed-pip
  fi
  unlock
}

install_run() {
  make_venv
  # The first file reads the others.
  install_for run requirements.txt model_package/requirements.txt \
    model_package/server/requirements.txt gateway/requirements.txt endpoint/requirements.txt
}

install_deploy() {
  install_run
  install_for deploy endpoint/requirements-deploy.txt
}

# Installations at the same time, which share nothing but the package cache.
install_test() {
  step make_venv
  start install_policy_tools
  start install_programs
  start install_tests
  finish || fail "could not install what the tests need"
  local tools=$PWD/.cache/policy-tools/bin
  export CHECKOV=$tools/checkov PARLIAMENT=$tools/parliament
  export ZIZMOR=$tools/zizmor CHECK_JSONSCHEMA=$tools/check-jsonschema
  export HADOLINT=$tools/hadolint
  step require_browsers
  [ -z "${ALL_TESTS:-}" ] || step require_containers
  [ -z "${ALL_TESTS:-}" ] || step require_java
  [ -z "${ALL_TESTS:-}" ] || step require_proxy
}

install_tests() {
  install_run
  install_for test tests/requirements.txt
}

# What reads policies and workflows needs other versions of what Easel uses, so it has an environment
# of its own.
install_policy_tools() {
  install_apart policy-tools tests/requirements-policies.txt
}

# Programs that the tests run unmodified come with versions of libraries of their own.
install_programs() {
  install_apart programs tests/requirements-programs.txt
  [ -z "${ALL_TESTS:-}" ] || install_apart generators tests/requirements-generators.txt
  [ -z "${ALL_TESTS:-}" ] || install_neuron
}

# optimum-neuron runs on no Python but these.
install_neuron() {
  case $(describe_python .venv/bin/python) in
    *' 3.11') install_apart neuron tests/requirements-neuron.txt ;;
    *) say "the tests of Inferentia2 are skipped: optimum-neuron requires Python 3.11, and .venv" \
      "has another one (PYTHON=python3.11 makes it with that)" ;;
  esac
}

# Install one file of requirements into .cache/NAME, unless this very set is installed already.
install_apart() {
  local environment=$PWD/.cache/$1 requirements=$2 wanted
  wanted=$(cksum < "$requirements")
  is_apart "$environment" "$wanted" && return
  lock .venv/bin/python "$environment"
  if ! is_apart "$environment" "$wanted"; then
    say "installing $requirements into $environment"
    make_environment .venv/bin/python "$environment"
    pip_install "$environment" -r "$requirements"
    printf '%s' "$wanted" > "$environment/.installed"
  fi
  unlock
}

is_apart() { has_stamp "$1/.installed" "$2" && is_whole "$1"; }

# --- Browsers for the tests ------------------------------------------------------------------

require_browsers() {
  require_chromium
  command -v firefox-esr firefox >/dev/null || install_browser Firefox firefox-esr
  [ -z "${ALL_TESTS:-}" ] || { command -v WebKitWebDriver && command -v Xvfb; } >/dev/null ||
    install_browser WebKit webkit2gtk-driver xvfb
}

# Chromium without its windows takes half of the processor time; with them it will do.
require_chromium() {
  command -v chromium-headless-shell chrome-headless-shell >/dev/null && return
  if can_use_apt; then
    say "installing Chromium for the browser tests"
    apt_install chromium-headless-shell fonts-noto-color-emoji && return
  fi
  find_chromium && return
  say "installing Playwright's Chromium for the browser tests"
  .venv/bin/playwright install chromium
}

find_chromium() {
  command -v chromium chromium-browser google-chrome >/dev/null && return
  .venv/bin/python - <<'LOOK'
import pathlib, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    sys.exit(not pathlib.Path(playwright.chromium.executable_path).exists())
LOOK
}

# Install the browser named $1 from the Debian packages after it. Playwright's own Firefox and
# WebKit are other builds than people use.
install_browser() {
  local browser=$1
  shift
  say "installing $browser for the browser tests"
  can_use_apt && apt_install "$@" && return
  say "tests in $browser are skipped without it; to run them, install it (Debian: apt install $*)"
}

# What builds and runs the serving image without a Docker engine.
require_containers() {
  local program missing=
  set -- buildah podman runc mmdebstrap docker-registry
  for program in "$@"; do
    command -v "$program" >/dev/null || missing=1
  done
  [ -n "$missing" ] || return 0
  say "installing $* for the tests of the serving image"
  can_use_apt && apt_install --no-install-recommends "$@" && return
  say "the tests that build the serving image are skipped without them"
}

# What the serving toolkit of AWS's Hugging Face images is: a server in Java.
require_java() {
  command -v java >/dev/null && return
  say "installing Java for the tests of the serving toolkit"
  can_use_apt && apt_install --no-install-recommends default-jre-headless && return
  say "the tests of the serving toolkit's server are skipped without it"
}

# A caching proxy, in front of the gateway.
require_proxy() {
  command -v nginx >/dev/null && return
  say "installing nginx for the test of a caching proxy"
  can_use_apt && apt_install --no-install-recommends nginx-light && return
  say "the test of a caching proxy is skipped without it"
}

can_use_apt() {
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]
}

apt_install() {
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$@" >/dev/null
}

# --- Commands --------------------------------------------------------------------------------

run() {
  step install_run
  exec .venv/bin/python -m endpoint.emulator run "$@"
}

run_tests() {
  if [ "${1:-}" = --all ]; then
    shift
    export ALL_TESTS=1
  fi
  install_test
  # Else each of their processes would compile all tests and all of Easel again.
  unset PYTHONDONTWRITEBYTECODE
  [ $# = 0 ] || exec .venv/bin/python -m pytest "$@"
  step .venv/bin/ruff check .
  step .venv/bin/ruff format --check .
  run_all_tests
}

# The end-to-end tests and those of this script mostly wait, so three of them fit beside the others,
# which mostly compute: of these, as many as there are cores, because each process imports and
# collects everything first. Schemathesis, which only the end-to-end tests use, is slow to import.
# Files keep their order within a process: moto's state is the process's, and some of them reset it.
run_all_tests() {
  local cores failed=0
  cores=$(getconf _NPROCESSORS_ONLN)
  logs=$(mktemp -d)
  trap 'rm -rf "$logs"' EXIT
  say "running mypy and the end-to-end tests in parallel; their output follows that of the other tests"
  start .venv/bin/mypy > "$logs/mypy" 2>&1
  set -- .venv/bin/python -m pytest --dist loadfile --no-loadscope-reorder
  start "$@" -n 3 -p no:cacheprovider tests/end_to_end tests/test_setup.py \
    > "$logs/end_to_end" 2>&1
  start "$@" -n "$cores" -p no:schemathesis --ignore=tests/end_to_end --ignore=tests/test_setup.py
  finish || failed=$?
  say "mypy:"
  cat "$logs/mypy"
  say "the end-to-end tests:"
  cat "$logs/end_to_end"
  return "$failed"
}

deploy() {
  step install_deploy
  exec .venv/bin/python -m endpoint deploy "$@"
}

destroy() {
  step install_run
  exec .venv/bin/python -m endpoint destroy "$@"
}

prove() {
  step install_deploy
  exec .venv/bin/python -m endpoint prove "$@"
}

trap 'end_all 130' INT
trap 'end_all 143' TERM
trap 'end_all 129' HUP
command=${1:-help}
[ $# = 0 ] || shift
case $command in
  run) run "$@" ;;
  test) run_tests "$@" ;;
  deploy) deploy "$@" ;;
  destroy) destroy "$@" ;;
  prove) prove "$@" ;;
  install) step install_run ;;
  help | -h | --help) usage ;;
  *) usage >&2; fail "no such command: $command" ;;
esac
