//! Codes of the `check` area: conventions of recipes and finished images.

codes! {
    LICENSE = "check/license", User, "a licence that is no SPDX expression",
        "Scanners and registries read the licence label by machine. It is an expression of identifiers from https://spdx.org/licenses, such as `MIT OR Apache-2.0`.";
    HEALTH = "check/health", User, "a recipe without a health check",
        "Orchestrators replace what does not work, and learn that from the health check. A runtime that has none is said to have none, with the reason: `[contract] waive = { health = \"…\" }`.";
    STOP = "check/stop-timeout", User, "a time to stop that makes no sense",
        "`stop_timeout` is how long the runtime may take to end by itself before it is killed. Without any it cannot save its work; no orchestrator waits for hours.";
    PORT = "check/port", User, "a port that only root can open",
        "Containers run as an ordinary user without capabilities, and ports below 1024 may be closed to them. The port a container listens on and the one it is published on are independent.";
    CONFIG_PATH = "check/config-path", User, "a configuration that lies in no volume",
        "At every start claw-init renders the configuration where the runtime reads it. Images run with a read-only root, so that place has to be in a volume or a temporary directory.";
    SECRET = "check/secret", User, "a secret that is not treated as one",
        "A variable that holds a token, a key or a password is declared with `secret = true`, so that its value is never shown, and never has a value in the image, where everybody can read it.";
    MACHINE = "check/machine", Verification, "a program for another processor",
        "An ELF file of the finished image says that it is for another machine than the image's platform. It came with a package that brings natives for several, or was built for the build platform. `omit` in `[build]` leaves files out.";
    LIBRARY = "check/missing-library", Verification, "a program lacks a shared library or its loader",
        "A program or library of the finished image names a shared library it needs (`DT_NEEDED`), or its dynamic loader, and no directory the loader searches has it. `[image] packages` adds Debian packages.";
    PRIVILEGED = "check/set-uid", Verification, "a program with the rights of its owner",
        "A file of the finished image has the set-uid or set-gid bit: whoever runs it gets its owner's rights. Containers run without new privileges, so it is of no use and only a risk.";
    WRITABLE = "check/world-writable", Verification, "a file that anybody may write to",
        "A file or directory of the finished image can be written to by every user. Only temporary directories, with the sticky bit, may be.";
    CACHE = "check/package-cache", Verification, "a package manager's cache in an image",
        "Files that a package manager keeps for its next run are of no use in an image and make it larger. Steps that run package managers mount caches: `cache = [\"/root/.npm\"]`.";
    KEY = "check/private-key", Verification, "a private key in an image",
        "A file of the finished image holds a private key. Whoever has the image has the key. Containers are given keys as secrets, in /run/secrets.";
    VOLUME = "check/volume", Verification, "a volume the user cannot write to",
        "A new volume takes over the owner of the directory it is mounted on, so that directory has to be in the image and belong to the user the image declares.";
    CONFIG = "check/image-config", Verification, "an image config that breaks a convention",
        "The config of the finished image lacks something every image has: a numeric user that is not root, a health check, labels that say what it is, an entrypoint that can be executed.";
    LAYER = "check/layer", User, "a layer cannot be looked at",
        "A layer of the finished image could not be read from the store. Building again makes it anew.";
}
