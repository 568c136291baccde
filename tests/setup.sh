# shellcheck shell=bash
# Installs what the tests need and a fresh Debian machine lacks. Sourced by tests/run.
#
# Everything comes from the Debian archive, except crane: `go install` at a pinned version that Debian 12's own Go
# can compile. What is there already is left alone.

CRANE=github.com/google/go-containerregistry/cmd/crane@v0.19.2

PACKAGES=(
  # to compile
  ca-certificates gcc libc6-dev git make pkg-config
  # the peers and readers the tests compare with
  buildah docker.io docker-registry mmdebstrap runc skopeo umoci
  # what the tests themselves call
  curl iproute2 openssh-client openssl perl-base procps uidmap util-linux xz-utils
)
# Debian 13 split these off docker.io.
PACKAGES_WHERE_THEY_EXIST=(docker-cli docker-buildx)

setup() {
  # shellcheck source=/dev/null
  command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
  command -v cargo >/dev/null || fail "cargo is not installed: https://rustup.rs installs it"
  command -v dpkg-query >/dev/null || fail "the tests set themselves up on Debian only"
  install_packages
  install_crane
}

install_packages() {
  local missing=() optional=() package
  for package in "${PACKAGES[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  for package in "${PACKAGES_WHERE_THEY_EXIST[@]}"; do
    apt-cache show "$package" >/dev/null 2>&1 && optional+=("$package")
  done
  # Daemons that packages would start for the whole machine are of no use here: the tests start their own.
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" "${optional[@]}" >"$WORK/apt.log" 2>&1 ||
    { cat "$WORK/apt.log" >&2; fail "apt-get could not install what the tests need"; }
}

is_installed() {
  dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -q '^installed$'
}

install_crane() {
  local stamp=$CLAWBUILD_TEST_TOOLS/crane.version go
  [ -x "$CLAWBUILD_TEST_TOOLS/crane" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$CRANE" ] && return 0
  say "compiling ${CRANE##*/}"
  go=$(find_go) || {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-go >/dev/null
    go=$(find_go) || fail "Go could not be installed"
  }
  # GOFLAGS and GOTOOLCHAIN: what the user set for other work must not change this.
  GOBIN=$CLAWBUILD_TEST_TOOLS GOFLAGS='' GOTOOLCHAIN=local "$go" install "$CRANE"
  echo "$CRANE" >"$stamp"
}

find_go() {
  command -v go && return
  local candidate
  for candidate in /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
    [ -x "$candidate" ] && echo "$candidate" && return
  done
  return 1
}
