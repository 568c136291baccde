//! Codes of the `recipe` area: recipes and bases as written.

codes! {
    SYNTAX = "recipe/syntax", User, "the file is not valid TOML",
        "Recipes and bases are TOML 1.0 files. The message names the first place the parser could not go on; an unclosed quote or bracket a little earlier is the usual reason.";
    UNKNOWN_KEY = "recipe/unknown-key", User, "a key that means nothing here",
        "Every key of a recipe is known; anything else is refused so that a typo cannot silently change an image. The help names the nearest known key, or lists those of the table.";
    MISSING_KEY = "recipe/missing-key", User, "a required key is missing",
        "The table lacks a key it cannot do without. `clawbuild explain recipe/missing-key` shows this text; the recipes in `runtimes/` show complete tables.";
    WRONG_TYPE = "recipe/wrong-type", User, "a value of the wrong type",
        "The key takes another type of value: text in quotes, a number, true or false, an array in brackets or a table. The message names both.";
    BAD_VALUE = "recipe/bad-value", User, "a value that cannot be used",
        "The value has the right type but not a form that can be used here: a name with odd characters, a path that is not absolute, a port above 65535, an unknown choice. The message says what form is expected.";
    DUPLICATE = "recipe/duplicate", User, "the same thing is declared twice",
        "Two declarations take the same name or the same path, so one would silently hide the other. Rename or remove one.";
    UNKNOWN_PROFILE = "recipe/unknown-profile", User, "no such profile",
        "An agent or a profile stands on a profile that the recipe does not define. Profiles are defined as `[profiles.NAME]` in the recipe itself; `clawbuild show RECIPE` lists them.";
    UNKNOWN_PROCESS = "recipe/unknown-process", User, "no such process",
        "An agent's process is to start after another one that the agent does not define. The recipe's own command goes by the recipe's name.";
    UNKNOWN_STAGE = "recipe/unknown-stage", User, "a stage that is not defined",
        "A step or a copy refers to a stage that the recipe does not define, and no base has that name either. Stages are tables `[stages.NAME]`; bases are files in `base/`.";
    UNKNOWN_BASE = "recipe/unknown-base", User, "a base that is not defined",
        "The recipe or base stands on a base for which there is no file in `base/`. `clawbuild list --bases` prints those there are.";
    CYCLE = "recipe/cycle", User, "stages or bases that stand on each other in a circle",
        "Following `from` leads back to where it began, so there is no first one to build. Break the circle by letting one of them start from a base or from `scratch`.";
    SCHEMA = "recipe/schema", User, "a recipe schema this clawbuild does not read",
        "`schema = 1` is the one this version reads. A newer number means the recipe was written for a newer clawbuild.";
    SOURCE_NOT_FOUND = "recipe/source-not-found", User, "the source is not there",
        "The package, version, directory or file the recipe names as its source does not exist where it was looked for. The message says where that was.";
    UNPINNED_IMAGE = "recipe/unpinned-image", User, "a base that stands on an image without a digest",
        "A tag in a registry can be moved, so a build on it could not be repeated. Look up the digest the tag has now, and write it into the base's file in `base/` as `image = \"REPOSITORY:TAG@sha256:…\"`.";
    UNMET_TOOL = "recipe/unmet-requirement", User, "the base does not bring the tool version the recipe asks for",
        "`[build] requires` names tools and versions; the base under the image declares in `[provides]` what it brings. Choose another base, or move the version in `base/`.";
    LOCK_FILE = "recipe/lock-file", User, "a language's lock file that cannot be used",
        "The file in which the language's package manager pins dependencies, such as Cargo.lock, is not one, or pins something clawbuild cannot fetch by checksum. Write it anew with the package manager, and look at the entry the message shows.";
}
