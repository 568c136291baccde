//! Answers `GET /health` on the port that `CLAW_PORT` names, until it is told to stop.

use tiny_http::{Response, Server};

fn main() {
    let port = std::env::var("CLAW_PORT").unwrap_or_else(|_| "8080".to_owned());
    let server = Server::http(format!("0.0.0.0:{port}")).expect("the port is free");
    println!("listening on {port}");
    for request in server.incoming_requests() {
        let status = if request.url() == "/health" { 200 } else { 404 };
        let _ = request.respond(Response::from_string("claw-rust\n").with_status_code(status));
    }
}
