//! Codes of the `engine` area.

codes! {
    NO_NAMESPACES = "engine/no-namespaces", Engine, "the embedded engine cannot make its namespaces",
        "The embedded engine runs steps in Linux namespaces of its own. Root can always make them; an ordinary user needs user namespaces, which some machines switch off or restrict. `clawbuild doctor` shows what is missing. Other engines (`--engine docker`, `--builder URL`) do not need them on this machine.";
    MOUNT = "engine/mount", User, "a file tree cannot be mounted",
        "The snapshots a step builds on could not be put together as one file tree. The message says what the system refused; `clawbuild doctor` shows what mounts work here.";
    SANDBOX = "engine/sandbox", User, "the sandbox of a step could not be made",
        "Before a step's command runs, the engine makes namespaces, mounts and limits for it. The system refused one of them; the message says which and why. `clawbuild doctor` shows what works here.";
    UNKNOWN_USER = "engine/unknown-user", User, "a step's user does not exist",
        "A step is to run as a user or group given by name, and the root filesystem it runs in has no such entry in /etc/passwd or /etc/group. Numbers always work.";
    NO_MOUNT_SOURCE = "engine/no-mount-source", User, "what a step mounts does not exist",
        "A step mounts a path of another file tree, and that tree has nothing at that path.";
    WORKING_DIRECTORY = "engine/working-directory", User, "a step's working directory is not a directory",
        "The working directory of a step is made if it is not there, but its path is that of a file.";
    PROGRAM_NOT_FOUND = "engine/program-not-found", User, "a step's program is not in its root filesystem",
        "The program was looked for in the root filesystem of the step, not on this machine: by its path if it has a slash, along the step's PATH otherwise. A script or a dynamically linked program also needs its interpreter there.";
    NOT_EXECUTABLE = "engine/not-executable", User, "a step's program cannot be executed",
        "The file is there but lacks the permission to be executed, or is neither an ELF program nor a script that begins with `#!`.";
    FOREIGN_ARCHITECTURE = "engine/foreign-architecture", User, "a step's program is for another processor",
        "Steps run natively. A program built for another architecture can only run under emulation, which is never used unless asked for. Steps that cross-compile run on the build platform with its tools.";
    EMULATION = "engine/emulation", Engine, "programs of another architecture cannot be run here",
        "`--allow-emulation` runs the programs of an image for another platform by qemu's user-mode emulation, `qemu-ARCH-static` on the PATH (Debian's package qemu-user-static). A container gets an instance of the kernel's binfmt_misc of its own for that, which Linux 6.7 and newer give to user namespaces; nothing is registered with the machine.";
    UNAVAILABLE = "engine/unavailable", Engine, "an engine cannot be used here",
        "The engine asked for does not work on this machine or cannot be reached. The message says why and what would mend it; `clawbuild doctor` looks at every engine.";
    UNREACHABLE = "engine/unreachable", Engine, "a builder cannot be reached",
        "Nothing answers at the builder's address: the socket does not exist, the connection is refused or times out, or the host's name is not known. Is the daemon running, and is it listening there? `buildctl --addr ADDRESS debug workers` asks it the same way.";
    TLS = "engine/tls", Engine, "a builder's certificate, or this side's, is not accepted",
        "The builder was reached, but one side does not accept the other's certificate. The authority that signed the builder's certificate is given as `ca.pem`, this side's own certificate and key as `cert.pem` and `key.pem`; the name in the address has to be one the builder's certificate is for.";
    PROTOCOL = "engine/protocol", Engine, "a builder does not speak the protocol expected",
        "Something answers at the builder's address, but not in gRPC over HTTP/2. A TLS listener has to be given certificates, and one without TLS must not be; the port of a web server or a registry is not a builder's.";
    NOT_BUILDKIT = "engine/not-buildkit", Engine, "what answers is not BuildKit",
        "Something that speaks gRPC answers at the builder's address, but it does not offer BuildKit's control service. containerd's socket is such a thing; BuildKit's own is usually `/run/buildkit/buildkitd.sock`.";
    CONNECTION_LOST = "engine/connection-lost", Transient, "the connection to a builder broke off",
        "The builder was reached and then went away while it worked: it was stopped, ran out of memory, or the network broke. What it had finished is in its cache, so another try continues from there.";
    BUILDER = "engine/builder", User, "a builder could not do what was asked",
        "The builder refused the build or failed in a way that belongs to no one step. The message is its own.";
    BUILDER_FULL = "engine/builder-full", User, "a builder's disk is full",
        "The machine the builder runs on has no space left for its cache. Nothing here is affected. `buildctl prune` on it, or its own limits for the cache (`gc` in buildkitd.toml), make room.";
    ADDRESS = "engine/builder-address", Usage, "a text that is no builder's address",
        "`--builder` and `BUILDKIT_HOST` take an address: `unix:///PATH`, `tcp://HOST:PORT`, `docker-container://NAME`, `kube-pod://NAME`, `ssh://HOST`. `--builder` also takes the name of a buildx builder or of a Docker context, and attributes behind a comma: `platform`, and for `tcp` also `cacert`, `cert`, `key` and `servername`.";
    UNKNOWN_BUILDER = "engine/unknown-builder", User, "a builder or a Docker context that does not exist",
        "Names are looked up among buildx's builders (`docker buildx ls`) and then among Docker's contexts (`docker context ls`). `DOCKER_CONFIG` and `BUILDX_CONFIG` say in which directories, `DOCKER_CONTEXT` and `DOCKER_HOST` which context is the current one.";
    BUILDER_CONFIG = "engine/builder-config", User, "a builder is set up in a way that cannot be used",
        "A file of buildx's or Docker's that describes a builder or a context cannot be read, or says something clawbuild cannot do. The message names the builder or the file.";
    MISSING_CAPABILITY = "engine/missing-capability", Engine, "the engine lacks a capability the build needs",
        "Every step records which LLB capabilities it needs, and they are compared with the engine's before anything runs. An old BuildKit would otherwise ignore what it does not know. Use a newer engine, or the embedded one.";
    STEP_FAILED = "engine/step-failed", User, "a step's command failed",
        "The command of a step ran and ended with a status other than 0, or by a signal. Its last lines are shown below the message, all of it above. What the steps before it made stays in the cache.";
    NO_SECRET = "engine/no-secret", User, "a secret a step needs was not given",
        "A step mounts a secret that is not optional, and no secret of that name was given. Secrets are passed by name and never stored: `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`.";
    NO_AGENT = "engine/no-agent", User, "an SSH agent a step needs was not given",
        "A step talks to an SSH agent, and none was given under the name it asks for. Agents are passed by name, and only what they sign leaves this machine: `--ssh default` passes the agent of `SSH_AUTH_SOCK`, `--ssh NAME=SOCKET` another one.";
    UNSUPPORTED = "engine/unsupported", Engine, "the engine cannot do what a step asks for",
        "A step uses a feature this engine does not have. Another engine may: `--engine`, `--builder`.";
    REQUEST = "engine/request", Bug, "the engine was not given what the definition refers to",
        "The definition names a local directory or an OCI layout that the request does not provide. Definitions clawbuild makes itself never do; please report it.";
    IMAGE = "engine/image", User, "an image used as a source cannot be used",
        "An image the build stands on is incomplete, malformed, or has no variant for the platform built for. The message names the blob.";
    GIT = "engine/git", User, "a git source cannot be had",
        "The commit a source is locked to could not be fetched or checked out. The last lines git printed are shown. Credentials come from git's own configuration; commits that were fetched once are kept in the store.";
    NO_GIT = "engine/no-git", User, "git is not installed",
        "A source is a git commit, which is fetched with the `git` program. It was not found on the PATH or could not be started.";
    IO = "engine/io", User, "a file operation of a step failed",
        "The operating system refused a file operation while a step's result was made. The message names the file and the reason.";
    EXPORT = "engine/export", User, "the result cannot be written",
        "Everything was built, but the image or the files could not be written to where they go. What was built stays in the cache, so another try only has to write.";
    CONTEXT_MISSING = "engine/context-missing", User, "a build context is not a directory",
        "The directory that a local source stands for does not exist, or the path is that of a file. Relative paths are taken from where the recipe says.";
    CONTEXT_PATTERN = "engine/context-pattern", User, "a pattern for files of a build context is malformed",
        "Patterns are those of `.dockerignore`: `*` and `?` match within a name, `[a-z]` one character, `**` any number of directories, `!` in front takes files in again, `\\` takes the next character as it is. Later patterns overrule earlier ones.";
    CONTEXT_READ = "engine/context-read", User, "a file of a build context cannot be read",
        "A file or directory that is part of a build context could not be read. Files that are no business of the build are best left out with `.dockerignore`.";
    CONTEXT_FILE = "engine/context-file", User, "a build context holds a FIFO or a device",
        "A build context can hold files, directories and symbolic links. Leave anything else out with a line in `.dockerignore`.";
    CONTEXT_CHANGED = "engine/context-changed", Transient, "a build context changed while it was read",
        "A file was written to while clawbuild read or copied it, so that no one state of it can be built. Nothing was kept of it. Build again when it has come to rest; files that never do, such as logs, belong into `.dockerignore`.";
    FILE_NOT_FOUND = "engine/file-not-found", User, "a file operation finds nothing at its path",
        "A copy or a removal names a path, or a pattern, that the file tree it works on does not have. Paths are those inside the tree, not on this machine.";
    BAD_PATTERN = "engine/bad-pattern", User, "a pattern is not well formed",
        "Patterns are those of `.dockerignore`: `*`, `?`, `[a-z]`, `**`, and `!` to take something back.";
    FILE_CONFLICT = "engine/file-conflict", User, "a file and a directory are in each other's way",
        "A copy would put a file where a directory is, or go through a file as if it were a directory.";
    BAD_ARCHIVE = "engine/bad-archive", User, "an archive cannot be unpacked",
        "The archive is damaged, holds paths that lead outside of where it is unpacked, or is compressed in a way that is not understood. Plain tar and tar with gzip, xz or zstd are.";
    FILE_OPERATION = "engine/file-operation", User, "a file operation failed",
        "The operating system refused an operation on a file tree. The message says which and why.";
    GATEWAY = "engine/gateway", Engine, "a call of the daemon that runs this frontend failed",
        "As a BuildKit frontend clawbuild asks the daemon for files of the build context and hands it the build's graph. One of these calls was refused; the message has the daemon's words.";
}
