//! Codes of the `lock` area.

codes! {
    STALE = "lock/stale", Verification, "the lock does not answer what recipes and bases ask",
        "With `--locked` (the default in CI) clawbuild.lock must hold an answer for every outside input. A recipe or base asks for something the lock does not pin, or pins for another request. `clawbuild lock` resolves just what is missing and writes it; commit the result.";
    SYNTAX = "lock/syntax", User, "the lock file cannot be read",
        "clawbuild.lock is written by clawbuild only; a merge conflict or an edit by hand is the usual reason. Restore it from version control, or remove it and resolve anew with `clawbuild lock`.";
    NEWER = "lock/newer", User, "the lock was written by a newer clawbuild",
        "The lock's version is above what this clawbuild reads. Update clawbuild, or remove the lock and resolve anew.";
    OFFLINE = "lock/offline", Verification, "inputs are missing and the network is off",
        "With `--offline` every input must lie in the store already. The message lists all that do not. Run the same command once without `--offline`.";
    SUPERSEDED = "lock/superseded", Verification, "a locked input is nowhere to be found",
        "The archive has replaced a package the lock pins, and neither the store nor a mirror has it. Without `--locked` just this input is resolved anew and the lock updated; with it the build stops, since it could not be the same.";
    DEPENDENCIES = "lock/dependencies", Verification, "a language's lock file is not what clawbuild.lock pins",
        "The file that pins a recipe's dependencies (such as pnpm-lock.yaml) changed without clawbuild.lock, or belongs to another version of the program. `clawbuild lock` records it.";
    UNPUBLISHED = "lock/unpublished", Verification, "a base a frontend needs is not published",
        "As a BuildKit frontend clawbuild runs inside a daemon and assembles nothing: bases, and the Debian packages of recipes, are taken from a registry by the digests clawbuild.lock has under `[[published]]`. `clawbuild publish TARGET --repository REGISTRY/NAME` pushes them and records where; commit the lock. A base can also be given by name: `--build-context base/NAME=docker-image://…` or `=oci-layout://…`.";
    MISSING = "lock/missing", Verification, "the build context has no clawbuild.lock",
        "As a BuildKit frontend clawbuild resolves nothing, so the build context must hold a clawbuild.lock that answers everything the recipe asks. Give the directory that holds it as the context, or write one with `clawbuild lock`.";
}
