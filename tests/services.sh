# shellcheck shell=bash
# Starts and stops the daemons the tests have for themselves. Sourced by tests/run.
#
# All listen on loopback or a unix socket, on ports the kernel picks, keep their files under $WORK, and are stopped by
# process id when the run ends, however it ends.

SERVICES=()

# service NAME COMMAND…: starts it in the background, its output in $WORK/NAME.log.
service() {
  local name=$1
  shift
  "$@" >"$WORK/$name.log" 2>&1 &
  SERVICES+=("$!")
}

# awaited NAME SECONDS COMMAND…: what COMMAND prints once it succeeds.
awaited() {
  local name=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || { tail -n 30 "$WORK/$name.log" >&2; fail "$name did not start"; }
    sleep 0.05
  done
}

start_services() {
  export CLAWBUILD_TEST_SERVICES=$WORK
  start_registries
  start_dockerd
  start_buildkitd
}

stop_services() {
  local index
  for ((index = ${#SERVICES[@]} - 1; index >= 0; index--)); do
    stop "${SERVICES[index]}"
  done
  SERVICES=()
}

# stop PID: asks, waits up to 15 seconds, then insists.
stop() {
  as_root kill -TERM "$1" 2>/dev/null || return 0
  local deadline=$((SECONDS + 15))
  while as_root kill -0 "$1" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || { as_root kill -KILL "$1" 2>/dev/null; break; }
    sleep 0.05
  done
  wait "$1" 2>/dev/null || true
}

# Leftover mounts of a daemon that had to be killed would make removing $WORK reach into them.
remove_work() {
  local mount
  while read -r mount; do
    as_root umount -l "$mount" || return
  done < <(awk -v work="$WORK/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
  as_root rm -rf --one-file-system "$WORK"
}

listening() {
  grep -ao 'listening on 127\.0\.0\.1:[0-9]*' "$WORK/$1.log" | grep -o '127.*'
}

printed_address() {
  grep -ao '^127\.0\.0\.1:[0-9]*' "$WORK/$1.log"
}

start_registries() {
  CLAWBUILD_TEST_REGISTRY_USER=clawbuild
  CLAWBUILD_TEST_REGISTRY_PASSWORD=$(openssl rand -hex 12)
  export CLAWBUILD_TEST_REGISTRY_USER CLAWBUILD_TEST_REGISTRY_PASSWORD
  export CLAWBUILD_TEST_REGISTRY CLAWBUILD_TEST_REGISTRY_BASIC CLAWBUILD_TEST_REGISTRY_TOKEN CLAWBUILD_TEST_REGISTRY_CA

  start_registry registry ''
  CLAWBUILD_TEST_REGISTRY=$(awaited registry 20 listening registry)

  make_certificates
  perl -e 'printf "%s:%s\n", $ARGV[0], crypt($ARGV[1], "\$2y\$05\$" . $ARGV[2])' \
    "$CLAWBUILD_TEST_REGISTRY_USER" "$CLAWBUILD_TEST_REGISTRY_PASSWORD" "$(openssl rand -hex 11)" >"$WORK/htpasswd"
  start_registry registry-basic "
auth: { htpasswd: { realm: tests, path: $WORK/htpasswd } }" "
  tls: { certificate: $WORK/server.pem, key: $WORK/server.key }"
  CLAWBUILD_TEST_REGISTRY_BASIC=$(awaited registry-basic 20 listening registry-basic)
  CLAWBUILD_TEST_REGISTRY_CA=$WORK/ca.pem

  local token
  service token-server "$TARGET/debug/token-server" "$WORK/token.pk8" "$WORK/token.pem" tests registry \
    "$CLAWBUILD_TEST_REGISTRY_USER" "$CLAWBUILD_TEST_REGISTRY_PASSWORD"
  token=$(awaited token-server 20 printed_address token-server)
  start_registry registry-token "
auth: { token: { realm: 'http://$token/token', service: registry, issuer: tests, rootcertbundle: $WORK/token.pem } }"
  CLAWBUILD_TEST_REGISTRY_TOKEN=$(awaited registry-token 20 listening registry-token)
}

# start_registry NAME AUTH [TLS]
start_registry() {
  cat >"$WORK/$1.yml" <<YAML
version: 0.1
log: { level: info, accesslog: { disabled: false } }
storage: { filesystem: { rootdirectory: $WORK/$1 }, delete: { enabled: true } }
http:
  addr: 127.0.0.1:0
  secret: tests
${3:-}
$2
YAML
  service "$1" docker-registry serve "$WORK/$1.yml"
}

# An authority, a certificate of its for 127.0.0.1, and the key that signs tokens.
make_certificates() {
  (
    cd "$WORK"
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj '/CN=clawbuild tests' \
      -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
      -keyout server.key -out server.csr
    printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n' >server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext \
      -out server.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=a client' \
      -keyout client.key -out client.csr
    printf 'extendedKeyUsage=clientAuth\n' >client.ext
    openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile client.ext \
      -out client.pem
    # Named as builders' certificates are everywhere.
    mkdir buildkit-certificates
    cp ca.pem buildkit-certificates/ca.pem
    cp client.pem buildkit-certificates/cert.pem
    cp client.key buildkit-certificates/key.pem
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=tokens \
      -keyout token.key -out token.pem
    openssl pkcs8 -topk8 -nocrypt -in token.key -outform DER -out token.pk8
    # Tests that run as an ordinary user read the authority too.
    chmod 0644 ca.pem
    install -D -m 0644 ca.pem certs/ca.crt
  ) >"$WORK/openssl.log" 2>&1 || { cat "$WORK/openssl.log" >&2; fail "openssl could not make certificates"; }
}

start_dockerd() {
  local dockerd
  dockerd=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v dockerd) || fail "dockerd is not installed"
  echo '{}' >"$WORK/docker.json"
  local root=()
  [ "$(id -u)" = 0 ] || root=(sudo --preserve-env env "PATH=$PATH")
  # No bridge and no iptables: nothing of the machine's network is touched, containers use `none` or `host`.
  service dockerd "${root[@]}" "$dockerd" --config-file "$WORK/docker.json" --data-root "$WORK/docker" \
    --exec-root "$WORK/docker-exec" --pidfile "$WORK/docker.pid" --host "unix://$WORK/docker.sock" \
    --bridge=none --iptables=false --ip6tables=false
  awaited dockerd 60 as_root curl -sf --unix-socket "$WORK/docker.sock" http://docker/_ping >/dev/null
  # Through sudo the job is sudo; this is the daemon itself.
  SERVICES+=("$(as_root cat "$WORK/docker.pid")")
  export CLAWBUILD_TEST_DOCKER_HOST=unix://$WORK/docker.sock
}

# Three nodes: one that listens with TLS too, and takes only clients it knows; one that says it is for another platform;
# and one that runs that platform's programs, where the kernel lets it.
start_buildkitd() {
  export CLAWBUILD_TEST_BUILDKIT CLAWBUILD_TEST_BUILDKIT_TLS CLAWBUILD_TEST_BUILDKIT_CERTIFICATES
  export CLAWBUILD_TEST_BUILDKIT_OTHER CLAWBUILD_TEST_BUILDKIT_OTHER_TCP
  cat >"$WORK/buildkitd.toml" <<TOML
[registry."$CLAWBUILD_TEST_REGISTRY"]
  http = true
[registry."$CLAWBUILD_TEST_REGISTRY_TOKEN"]
  http = true
[registry."$CLAWBUILD_TEST_REGISTRY_BASIC"]
  ca = ["$WORK/ca.pem"]
TOML
  # Where buildkitd looks for what runs programs of another processor.
  mkdir -p "$WORK/emulators"
  ln -sf /usr/bin/qemu-aarch64-static "$WORK/emulators/buildkit-qemu-aarch64"

  CLAWBUILD_TEST_BUILDKIT_CERTIFICATES=$WORK/buildkit-certificates
  start_node buildkitd --tlscacert "$WORK/ca.pem" --tlscert "$WORK/server.pem" --tlskey "$WORK/server.key"
  CLAWBUILD_TEST_BUILDKIT=unix://$WORK/buildkitd.sock
  CLAWBUILD_TEST_BUILDKIT_TLS=tcp://$(awaited buildkitd 60 serving buildkitd)

  start_node buildkitd-other --oci-worker-platform linux/arm64 --oci-worker-platform linux/amd64
  CLAWBUILD_TEST_BUILDKIT_OTHER=unix://$WORK/buildkitd-other.sock
  CLAWBUILD_TEST_BUILDKIT_OTHER_TCP=tcp://$(awaited buildkitd-other 60 serving buildkitd-other)
  start_emulating_node
}

# Natively arm64, as far as clients can tell. On a kernel that has no binfmt_misc for it there is no such node.
start_emulating_node() {
  local name=buildkitd-arm64 root=() deadline=$((SECONDS + 60))
  [ "$(id -u)" = 0 ] || root=(sudo --preserve-env env)
  service "$name" "${root[@]}" env "PATH=$CLAWBUILD_TEST_TOOLS:$PATH:/usr/sbin:/sbin" "$PWD/tests/emulating-node" \
    buildkitd --config "$WORK/buildkitd.toml" --root "$WORK/$name" --addr "unix://$WORK/$name.sock" \
    --oci-worker-binary runc --oci-worker-gc=false --containerd-worker=false --oci-worker-platform linux/arm64
  until [ -S "$WORK/$name.sock" ]; do
    as_root kill -0 "${SERVICES[-1]}" 2>/dev/null && [ $SECONDS -lt $deadline ] || return 0
    sleep 0.05
  done
  export CLAWBUILD_TEST_BUILDKIT_ARM64=unix://$WORK/$name.sock
}

# start_node NAME OPTION…
start_node() {
  local name=$1 root=()
  shift
  [ "$(id -u)" = 0 ] || root=(sudo --preserve-env env)
  service "$name" "${root[@]}" env "PATH=$WORK/emulators:$PATH:/usr/sbin:/sbin" \
    "$CLAWBUILD_TEST_TOOLS/buildkitd" --config "$WORK/buildkitd.toml" --root "$WORK/$name" \
    --addr "unix://$WORK/$name.sock" --addr tcp://127.0.0.1:0 --oci-worker-binary runc --oci-worker-gc=false \
    --containerd-worker=false "$@"
}

serving() {
  grep -ao 'running server on 127\.0\.0\.1:[0-9]*' "$WORK/$1.log" | grep -o '127.*'
}
