//! Codes of the `llb` area: build graphs.

codes! {
    INVALID = "llb/invalid", Bug, "a build graph breaks a rule",
        "The graph that clawbuild made of a recipe is not one an engine can solve: an op uses something that is not there or is not well formed. Recipes cannot cause this; please report it with the recipe.";
    DECODE = "llb/decode", User, "bytes are not a build graph",
        "What was given as an LLB definition is damaged, or it uses a part of LLB that clawbuild does not. Definitions that `clawbuild graph --format llb` wrote can always be read back.";
    DOCKERFILE = "llb/dockerfile", User, "a build graph cannot be said as a Dockerfile",
        "`clawbuild graph --format dockerfile` prints a Dockerfile that builds the same. A few things a graph can hold have no Dockerfile instruction; the message names the one met. Such a target can only be built with clawbuild.";
}
