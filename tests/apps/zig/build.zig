const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{});
    const options = b.addOptions();
    options.addOption([]const u8, "version", b.option([]const u8, "version", "What /health says") orelse "unset");
    const module = b.createModule(.{
        .root_source_file = b.path("src/main.zig"),
        .target = target,
        .optimize = optimize,
        .strip = true,
    });
    module.addOptions("options", options);
    // The package is data, with no build.zig of its own.
    module.addAnonymousImport("types", .{ .root_source_file = b.dependency("mime_db", .{}).path("db.json") });
    b.installArtifact(b.addExecutable(.{ .name = "claw-zig", .root_module = module }));
}
