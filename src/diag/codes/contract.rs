//! Codes of the `contract` area: finished images, run and looked at.

codes! {
    BROKEN = "contract/broken", Verification, "an image does not keep the boot contract",
        "`clawbuild test` runs the finished image and looks whether it does what every image promises: health, reachable ports, overrides, users, a read-only root, secrets, an end in time. The report names the points that do not hold and what was seen. Where a runtime cannot keep one, its recipe says why: `[contract] waive = { POINT = \"the reason\" }`.";
    RUN = "contract/run", User, "a container for the boot contract could not be run",
        "`clawbuild test` could not make, run or look at a container of the image. This says nothing about the image: the message says what the system or the daemon refused.";
    ENGINE = "contract/engine", Engine, "nothing here can run the image",
        "`clawbuild test` runs images in the embedded engine's sandbox, or in Docker with `--engine docker`. Builders elsewhere build, but run no images. An image is tested on a machine of its platform; `--allow-emulation` lets qemu run it on another one.";
}
