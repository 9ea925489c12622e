#!/usr/bin/env bash
# Everything Easel does from the command line: run it here, test it. Linux and macOS, bash 3.2 on.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'HELP'
Easel: your own text-to-image URL.

  ./setup.sh run [OPTIONS]   run Easel on this machine: the gateway, and an emulated AWS with a
                             real diffusers model behind it; prints the URL when it is ready.
                             `./setup.sh run --help` tells the options and the ports.
  ./setup.sh test [ARGS]     check and test everything; ARGS go to pytest and leave the linters out
  ./setup.sh deploy [OPTIONS]   put Easel on AWS and print its URL; asks before it costs anything
  ./setup.sh destroy [OPTIONS]  take all of it down again, and prove it
  ./setup.sh install         only install what `run` needs

Needs Python 3.11 or newer. Everything is installed into .venv, and nothing else is touched, but
that `test` looks for Chromium and installs it where it is missing.

Environment:
  PYTHON     the Python to make .venv with (else the first of python3.11 ... python3 that will do)
HELP
}

say() { printf '%s\n' "easel: $*" >&2; }
fail() { say "$*"; exit 1; }

# --- Python and packages ---------------------------------------------------------------------

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer found; install one, or name it: PYTHON=/path/to/python3 ./setup.sh"
}

# Install the requirements of one purpose unless this very set is installed already.
install_for() {
  local purpose=$1 wanted stamp=.venv/.installed-$1
  shift
  wanted=$(cat "$@" | cksum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  say "installing what '$purpose' needs into .venv (the first time takes a few minutes)"
  local file
  for file in "$@"; do
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$file"
  done
  printf '%s' "$wanted" > "$stamp"
}

install_run() {
  if ! .venv/bin/python -c '' 2>/dev/null; then
    local python
    python=$(find_python)
    say "making .venv with $python"
    "$python" -m venv --clear .venv
    # chalice 1.34 asks for a pip older than 26.3.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'pip<26.3'
  fi
  # torch comes before anything that depends on it, so that exactly this build is used.
  install_for run model_package/requirements.txt requirements.txt gateway/requirements.txt \
    endpoint/requirements.txt
}

install_deploy() {
  install_run
  install_for deploy endpoint/requirements-deploy.txt
}

install_test() {
  install_run
  install_for test tests/requirements.txt
  install_policy_tools
  find_chromium || install_chromium
}

# What looks at policies wants other versions of what Easel uses, so it has a place of its own.
install_policy_tools() {
  local tools=$PWD/.cache/policy-tools wanted
  wanted=$(cksum < tests/requirements-policies.txt)
  if [ "$(cat "$tools/.installed" 2>/dev/null)" != "$wanted" ]; then
    say "installing checkov and parliament into $tools"
    .venv/bin/python -m venv --clear "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check \
      -r tests/requirements-policies.txt
    printf '%s' "$wanted" > "$tools/.installed"
  fi
  export CHECKOV=$tools/bin/checkov PARLIAMENT=$tools/bin/parliament
}

# --- A browser for the tests -----------------------------------------------------------------

find_chromium() {
  command -v chromium chromium-browser google-chrome >/dev/null && return
  [ -d "/Applications/Google Chrome.app" ] && return
  .venv/bin/python - <<'LOOK'
import pathlib, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    sys.exit(not pathlib.Path(playwright.chromium.executable_path).exists())
LOOK
}

install_chromium() {
  say "installing Chromium for the browser tests"
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium fonts-noto-color-emoji >/dev/null
  else
    .venv/bin/playwright install chromium
  fi
}

# --- Commands --------------------------------------------------------------------------------

run() {
  install_run
  exec .venv/bin/python -m endpoint.emulator run "$@"
}

run_tests() {
  install_test
  [ $# = 0 ] || exec .venv/bin/python -m pytest "$@"
  .venv/bin/ruff check .
  .venv/bin/ruff format --check .
  .venv/bin/mypy
  run_all_tests
}

# Two at a time: the end-to-end tests mostly wait, and the others mostly compute.
run_all_tests() {
  local log failed=0 ends
  log=$(mktemp)
  say "running the end-to-end tests beside the others; what they say comes after these"
  .venv/bin/python -m pytest -p no:cacheprovider tests/end_to_end > "$log" 2>&1 &
  ends=$!
  trap 'kill "$ends" 2>/dev/null; exit 130' INT TERM
  .venv/bin/python -m pytest --ignore=tests/end_to_end || failed=$?
  wait "$ends" || failed=$?
  trap - INT TERM
  say "the end-to-end tests:"
  cat "$log"
  rm -f "$log"
  return "$failed"
}

deploy() {
  install_deploy
  exec .venv/bin/python -m endpoint deploy "$@"
}

destroy() {
  install_run
  exec .venv/bin/python -m endpoint destroy "$@"
}

command=${1:-help}
[ $# = 0 ] || shift
case $command in
  run) run "$@" ;;
  test) run_tests "$@" ;;
  deploy) deploy "$@" ;;
  destroy) destroy "$@" ;;
  install) install_run ;;
  help | -h | --help) usage ;;
  *) usage >&2; fail "no such command: $command" ;;
esac
