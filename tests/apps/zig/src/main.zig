// Answers GET /health on the port that CLAW_PORT names, until it is told to stop.
const std = @import("std");
const options = @import("options");

const types = @embedFile("types");

pub fn main() !void {
    const port = try std.fmt.parseInt(u16, std.posix.getenv("CLAW_PORT") orelse "8080", 10);
    const content_type = try typeOf("txt");
    const address = try std.net.Address.parseIp("0.0.0.0", port);
    var server = try address.listen(.{ .reuse_address = true });
    std.debug.print("listening on {d}\n", .{port});
    while (true) {
        const connection = try server.accept();
        defer connection.stream.close();
        answer(connection, content_type) catch |err| std.debug.print("{s}\n", .{@errorName(err)});
    }
}

fn answer(connection: std.net.Server.Connection, content_type: []const u8) !void {
    var input: [4096]u8 = undefined;
    var output: [4096]u8 = undefined;
    var reader = connection.stream.reader(&input);
    var writer = connection.stream.writer(&output);
    var http = std.http.Server.init(reader.interface(), &writer.interface);
    var request = try http.receiveHead();
    const found = std.mem.eql(u8, request.head.target, "/health");
    try request.respond(if (found) "claw-zig " ++ options.version ++ "\n" else "", .{
        .status = if (found) .ok else .not_found,
        .keep_alive = false,
        .extra_headers = &.{.{ .name = "content-type", .value = content_type }},
    });
}

/// The media type of files with this extension.
fn typeOf(extension: []const u8) ![]const u8 {
    const database = try std.json.parseFromSliceLeaky(std.json.Value, std.heap.page_allocator, types, .{});
    var entries = database.object.iterator();
    while (entries.next()) |entry| {
        const extensions = entry.value_ptr.object.get("extensions") orelse continue;
        for (extensions.array.items) |item| {
            if (std.mem.eql(u8, item.string, extension)) return entry.key_ptr.*;
        }
    }
    return error.UnknownExtension;
}
