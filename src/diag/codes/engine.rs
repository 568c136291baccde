//! Codes of the `engine` area.

codes! {
    NO_NAMESPACES = "engine/no-namespaces", Engine, "the embedded engine cannot make its namespaces",
        "The embedded engine runs steps in Linux namespaces of its own. Root can always make them; an ordinary user needs user namespaces, which some machines switch off or restrict. `clawbuild doctor` shows what is missing. Other engines (`--engine docker`, `--builder URL`) do not need them on this machine.";
    MOUNT = "engine/mount", User, "a file tree cannot be mounted",
        "The snapshots a step builds on could not be put together as one file tree. The message says what the system refused; `clawbuild doctor` shows what mounts work here.";
}
