# shellcheck shell=bash
# Installs what the tests need and a fresh Debian machine lacks. Sourced by tests/run.
#
# Everything comes from the Debian archive, except crane, which Debian 12's own Go can compile, and buildkitd with
# buildctl, and buildx, for which a newer Go is fetched where the machine's is older. All at pinned versions, from the Go
# module proxy. What is there already is left alone.

CRANE=github.com/google/go-containerregistry/cmd/crane@v0.19.2
BUILDKIT=github.com/moby/buildkit@v0.33.1
BUILDKIT_SUM=h1:UUrdifmRdRadykO+f5l8BT1CseUXst2sJHV7AmkjjxE=
BUILDX=github.com/docker/buildx/cmd/buildx@v0.31.1
# The oldest Go that compiles them, and the checksums of its archives.
GO=1.26.8
GO_SHA256_AMD64=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7
GO_SHA256_ARM64=02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99

PACKAGES=(
  # to compile
  ca-certificates gcc libc6-dev git make pkg-config
  # the peers and readers the tests compare with
  buildah docker.io docker-registry mmdebstrap podman runc skopeo umoci
  # what the tests themselves call
  curl iproute2 openssh-client openssh-server openssl perl-base procps qemu-user-static uidmap unzip util-linux xz-utils
)
# Debian 13 split these off docker.io.
PACKAGES_WHERE_THEY_EXIST=(docker-cli docker-buildx)

setup() {
  # shellcheck source=/dev/null
  command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
  command -v cargo >/dev/null || fail "cargo is not installed: https://rustup.rs installs it"
  command -v dpkg-query >/dev/null || fail "the tests set themselves up on Debian only"
  install_packages
  install_targets
  install_crane
  install_buildkit
  install_buildx
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

# claw-init is tested for other platforms where the compiler came with rustup; its own build needs no rustup.
install_targets() {
  command -v rustup >/dev/null || return 0
  rustup --quiet target add aarch64-unknown-linux-gnu riscv64gc-unknown-linux-gnu ||
    say "no Rust libraries for other platforms: claw-init is not tested there"
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

install_buildkit() {
  local tools=$CLAWBUILD_TEST_TOOLS version=${BUILDKIT##*@} go sources
  local stamp=$tools/buildkit.version
  [ -x "$tools/buildkitd" ] && [ -x "$tools/buildctl" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$BUILDKIT" ] && return 0
  say "compiling buildkitd $version, which takes some minutes"
  go=$(recent_go)
  # `go install` refuses modules with exclusions, so it is compiled in a copy of its sources.
  (
    export GOFLAGS='' GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0
    cd "$WORK"
    # In a module of its own: outside of any, Go would not look the checksum up.
    "$go" mod init clawbuild.test >/dev/null 2>&1
    "$go" mod download -json "$BUILDKIT" >buildkit.json
    grep -qF "\"Sum\": \"$BUILDKIT_SUM\"" buildkit.json || fail "$BUILDKIT is not what it was"
    sources=$(sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p' buildkit.json)
    cp -r "$sources" buildkit-sources
    chmod -R u+w buildkit-sources
    cd buildkit-sources
    local flags="-s -w -X github.com/moby/buildkit/version.Version=$version"
    flags+=" -X github.com/moby/buildkit/version.Revision=$version"
    mkdir -p "$tools"
    "$go" build -trimpath -ldflags "$flags" -o "$tools/" ./cmd/buildctl ./cmd/buildkitd
  )
  rm -rf "$WORK/buildkit-sources"
  echo "$BUILDKIT" >"$stamp"
}

install_buildx() {
  local stamp=$CLAWBUILD_TEST_TOOLS/buildx.version version=${BUILDX##*@} go
  [ -x "$CLAWBUILD_TEST_TOOLS/buildx" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$BUILDX" ] && return 0
  say "compiling buildx $version, which takes some minutes"
  go=$(recent_go)
  local flags="-s -w -X github.com/docker/buildx/version.Version=$version"
  GOBIN=$CLAWBUILD_TEST_TOOLS GOFLAGS='' GOTOOLCHAIN=local CGO_ENABLED=0 "$go" install -trimpath -ldflags "$flags" "$BUILDX"
  echo "$BUILDX" >"$stamp"
}

# A Go that is at least $GO: the machine's, or one out of the module proxy.
recent_go() {
  local go
  if go=$(find_go) && is_recent "$go"; then
    echo "$go"
    return
  fi
  local tools=$CLAWBUILD_TEST_TOOLS/go-$GO machine sum proxy module archive=$WORK/go.zip
  if ! [ -x "$tools/bin/go" ]; then
    case $(uname -m) in
      x86_64) machine=amd64 sum=$GO_SHA256_AMD64 ;;
      aarch64) machine=arm64 sum=$GO_SHA256_ARM64 ;;
      *) fail "there is no Go $GO for this machine; install one" ;;
    esac
    proxy=${GOPROXY:-https://proxy.golang.org} proxy=${proxy%%[,|]*}
    module=golang.org/toolchain@v0.0.1-go$GO.linux-$machine
    say "fetching Go $GO" >&2
    curl -sSfL --retry 3 -o "$archive" "$proxy/${module/@/\/@v\/}.zip"
    echo "$sum  $archive" | sha256sum --check --quiet - >&2 || fail "Go $GO is not what it was"
    unzip -q "$archive" -d "$WORK/go"
    # Archives of modules know no permissions.
    chmod -R +x "$WORK/go/$module/bin" "$WORK/go/$module/pkg/tool"
    mkdir -p "$CLAWBUILD_TEST_TOOLS"
    rm -rf "$tools"
    mv "$WORK/go/$module" "$tools"
    rm -f "$archive"
  fi
  echo "$tools/bin/go"
}

is_recent() {
  local version
  version=$(GOTOOLCHAIN=local "$1" env GOVERSION) && version=${version#go} && version=${version%% *}
  [ "$(printf '%s\n%s\n' "$GO" "$version" | sort --version-sort | head -n 1)" = "$GO" ]
}

find_go() {
  command -v go && return
  local candidate
  for candidate in /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
    [ -x "$candidate" ] && echo "$candidate" && return
  done
  return 1
}
