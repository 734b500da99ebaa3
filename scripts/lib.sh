# Shared by the scripts here. Source it; it runs nothing.
#
# Everything that is built or downloaded lives under one cache folder outside
# the checkout, so that a fresh clone starts warm: TINDERBOX_CACHE, by default
# ~/.cache/tinderbox. People's messages go to stderr; stdout carries results.

set -euo pipefail

REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${TINDERBOX_CACHE:-$HOME/.cache/tinderbox}"
mkdir -p "$CACHE"

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
