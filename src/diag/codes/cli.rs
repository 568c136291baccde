//! Codes of the `cli` area: the command line and the program itself.

codes! {
    USAGE = "cli/usage", Usage, "the command line is not understood",
        "An argument is unknown, missing or has a value that cannot be read. `clawbuild help` lists the verbs, `clawbuild help VERB` the options of one.";
    UNKNOWN_TARGET = "cli/unknown-target", Usage, "no such target",
        "The target is not a recipe in `runtimes/`, not a base in `base/` and not a path to a recipe. `clawbuild list` prints the targets there are.";
    SOURCE = "cli/source", Usage, "a source cannot come from there",
        "`--source NAME=PLACE` fetches the source of the recipe NAME from another repository or archive, in this run only. NAME must be a recipe the command is about; PLACE a git repository (a path or a URL) where the recipe names one, else the very archive that the lock pins. The commit or checksum in the lock stays, so the image is the same wherever its source came from.";
    MERGE = "cli/merge", User, "images cannot be joined",
        "`clawbuild merge` joins images that several machines built, each for its own platform. They must be images of the same target, one for each platform, pushed to the same repository; the metadata files that `--metadata-file` wrote say so.";
    FILE = "cli/file", User, "a file cannot be read or written",
        "The operating system refused a file of the project: a recipe, a base, the lock or an output. The message names the file and the reason; permissions are the usual one.";
    SETTINGS = "cli/settings", User, "a setting cannot be read",
        "The settings file (`clawbuild/config.toml` in the configuration directory) or an environment variable of clawbuild has a form that cannot be used. The message shows the place.";
    NO_DESTINATION = "cli/no-destination", Usage, "it is not said where to push",
        "Neither the recipe (`[image] repository`), nor the command line (`--tag` with a full name, `--repository`), nor the environment (`GITHUB_REPOSITORY_OWNER`) says which repository the image goes to.";
    DOCKER = "cli/docker", User, "Docker cannot be used",
        "Loading an image needs a Docker daemon: the socket /var/run/docker.sock, or what DOCKER_HOST names. Building does not. The message has Docker's own words; without Docker, `-o type=docker,dest=FILE` writes an archive for `docker load`.";
    INTERRUPTED = "cli/interrupted", Interrupted, "interrupted by a signal",
        "The run was stopped by Ctrl-C or SIGTERM. Steps under way were stopped and their temporary files removed; finished steps stay in the cache, so the next run goes on from there.";
    OUTPUT = "cli/output", User, "standard output cannot be written",
        "What was asked for could not be written to standard output, for instance because it is redirected to a file on a full disk. The work itself was done; run the command again with another destination.";
    BUG = "cli/bug", Bug, "a bug in clawbuild",
        "An invariant of clawbuild itself did not hold. Please report it with the command line and the output.";
}
