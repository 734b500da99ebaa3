# Shared by the scripts here. Source it; it runs nothing.
#
# Everything that is built or downloaded lives under one cache folder outside
# the checkout, so that a fresh clone starts warm: TINDERBOX_CACHE, by default
# ~/.cache/tinderbox. People's messages go to stderr; stdout carries results.

set -euo pipefail

REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${TINDERBOX_CACHE:-$HOME/.cache/tinderbox}"
mkdir -p "$CACHE"
# Build results too: the checkout stays clean, and a new clone builds little.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"

say() { printf '%s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Runs the rest of the script under a lock, so that two callers never build
# the same thing at once; the second waits and then finds it done.
# usage: lock NAME
lock() {
  have flock || return 0
  exec 9>"$CACHE/$1.lock"
  flock -n 9 || {
    say "waiting for another run of '$1' to finish ..."
    flock 9
  }
}

# Which of the given Debian packages are not installed, one a line.
missing_packages() {
  local p
  for p in "$@"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed$' || echo "$p"
  done
}

# Installs the Debian packages that are missing, or says what to do.
# usage: need_packages WHAT_FOR PACKAGE...
need_packages() {
  local what="$1" missing
  shift
  if ! have apt-get || ! have dpkg-query; then
    die "$what needs software that is not installed here, and this is not a Debian system." \
      "Install what your system calls: $*" "and run the same command again."
  fi
  missing="$(missing_packages "$@" | tr '\n' ' ')"
  missing="${missing% }"
  [ -z "$missing" ] && return 0
  if [ "$(id -u)" != 0 ]; then
    die "$what needs system packages that are not installed." \
      "Run:  sudo apt-get install --no-install-recommends $missing" \
      "and then the same command again."
  fi
  say "installing for $what: $missing"
  local log="$CACHE/apt.log"
  # shellcheck disable=SC2086
  if ! apt_install $missing >"$log" 2>&1; then
    # Package lists of a fresh machine may be missing or old.
    if ! { apt-get update && apt_install $missing; } >>"$log" 2>&1; then
      tail -n 15 "$log" >&2
      die "apt-get could not install: $missing" "The whole output is in $log." \
        "Check the network and the package sources, then run the same command again."
    fi
  fi
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null
}

node_ok() {
  local major
  major="$("$1" --version 2>/dev/null | sed -n 's/^v\([0-9]*\).*/\1/p')"
  [ -n "$major" ] && [ "$major" -ge 20 ]
}

npm_ok() {
  local major
  major="$("$@" --version 2>/dev/null | sed -n 's/^\([0-9]*\)\..*/\1/p' | tail -n 1)"
  [ -n "$major" ] && [ "$major" -ge 10 ]
}

# Puts a usable Node.js and npm on PATH: the system's, else those in the cache,
# which scripts/setup brings if need be.
use_node() {
  if have node && have npm && node_ok node && npm_ok npm; then return 0; fi
  [ -x "$CACHE/node/bin/npm" ] || "$REPO/scripts/setup" node
  PATH="$CACHE/node/bin:$PATH"
  export PATH
}

# Starts the build of bitcoind in the background if there is none yet, so that
# it runs while cargo builds. bitcoind_ready waits for it and exports BITCOIND.
BITCOIND_BUILD=
bitcoind_begin() {
  "$REPO/scripts/bitcoind" --find >/dev/null 2>&1 && return 0
  say "no bitcoind found: building one in the background, once (see scripts/bitcoind)"
  "$REPO/scripts/bitcoind" --low-priority >/dev/null &
  BITCOIND_BUILD=$!
}
bitcoind_ready() {
  if [ -n "$BITCOIND_BUILD" ]; then
    wait "$BITCOIND_BUILD" || die "there is no bitcoind; see above."
    BITCOIND_BUILD=
  fi
  BITCOIND="$("$REPO/scripts/bitcoind")"
  export BITCOIND
}

# Starts the private PostgreSQL server, exports TINDERBOX_TEST_POSTGRES, and
# stops the server at the script's end if it did not run before.
postgres_ready() {
  "$REPO/scripts/setup" postgres
  if ! "$REPO/scripts/postgres" status >/dev/null 2>&1; then
    trap '"$REPO/scripts/postgres" stop || true' EXIT
  fi
  TINDERBOX_TEST_POSTGRES="$("$REPO/scripts/postgres" start)"
  export TINDERBOX_TEST_POSTGRES
}
