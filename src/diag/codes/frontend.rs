//! Codes of the `frontend` area: clawbuild run by BuildKit.

codes! {
    NO_DAEMON = "frontend/no-daemon", Usage, "nobody but BuildKit can run a frontend",
        "`clawbuild frontend` is what a BuildKit daemon runs in the image that a recipe's `# syntax=` line names; it speaks with the daemon on its standard streams. `clawbuild frontend-image` makes that image. To build here, use `clawbuild TARGET`.";
    OPTION = "frontend/option", Usage, "an option of the build cannot be used",
        "The client handed the frontend an option (`--platform`, `--target`, `--build-arg`, `--build-context`, `--opt`) with a value that means nothing to it. The message says what is expected.";
    CONTEXT = "frontend/context", User, "the build context lacks something",
        "As a BuildKit frontend clawbuild reads the recipe, the bases and the lock from the build context, and sees nothing outside of it. The message says what it looked for and where. `--build-context NAME=DIRECTORY` gives a directory that the context does not hold.";
}
