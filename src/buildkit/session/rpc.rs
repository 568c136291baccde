//! gRPC methods whose messages are written by hand.

use std::future::Future;

use futures::Stream;
use prost::Message;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// What the server is handed and gives back.
pub(super) type HttpRequest = http::Request<Body>;
pub(super) type HttpResponse = http::Response<Body>;

/// The longest message that is read. Twice what containerd's client puts into one.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Answers one message with one.
pub(super) async fn unary<Q, A, F>(request: HttpRequest, answer: impl FnMut(Request<Q>) -> F) -> HttpResponse
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Future<Output = Result<Response<A>, Status>>,
{
    grpc::<Q, A>().unary(tower::service_fn(answer), request).await
}

/// Answers one message with many.
pub(super) async fn server_streaming<Q, A, S, F>(
    request: HttpRequest,
    answer: impl FnMut(Request<Q>) -> F,
) -> HttpResponse
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
    F: Future<Output = Result<Response<S>, Status>>,
{
    grpc::<Q, A>().server_streaming(tower::service_fn(answer), request).await
}

/// Answers many messages with many.
pub(super) async fn streaming<Q, A, S, F>(
    request: HttpRequest,
    answer: impl FnMut(Request<Streaming<Q>>) -> F + Send,
) -> HttpResponse
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
    F: Future<Output = Result<Response<S>, Status>> + Send,
{
    grpc::<Q, A>().streaming(tower::service_fn(answer), request).await
}

/// The answer to a method that is not there.
pub(super) fn unimplemented(path: &str) -> HttpResponse {
    Status::unimplemented(format!("{path} is not offered")).into_http()
}

fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_LIMIT)
}

/// The values of a header, as BuildKit writes them: where one of them is not ASCII, all are escaped, and another
/// header says so. Source: BuildKit `session/filesync/filesync.go`.
pub(super) fn values(metadata: &MetadataMap, name: &str) -> Result<Vec<String>, Status> {
    let is_escaped =
        metadata.get(format!("{name}-encoded")).is_some_and(|flag| matches!(flag.as_bytes(), b"1" | b"true"));
    let values = metadata.get_all(name).iter().map(|value| {
        let bytes = if is_escaped { unescape(value.as_bytes()) } else { Some(value.as_bytes().to_vec()) };
        bytes.and_then(|bytes| String::from_utf8(bytes).ok())
    });
    values.collect::<Option<_>>().ok_or_else(|| Status::invalid_argument(format!("the header `{name}` is malformed")))
}

/// The first value of a header; empty if there is none.
pub(super) fn value(metadata: &MetadataMap, name: &str) -> Result<String, Status> {
    Ok(values(metadata, name)?.into_iter().next().unwrap_or_default())
}

/// Undoes the escaping of URL queries.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [*rest.next()?, *rest.next()?];
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).ok()?;
                byte[0]
            }
            byte => byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_buildkit_writes_them() {
        let mut metadata = MetadataMap::new();
        for value in ["src", "a+b%41", "!*.md"] {
            metadata.append("include-patterns", value.parse().expect("a value"));
        }
        assert_eq!(values(&metadata, "include-patterns").expect("values"), ["src", "a+b%41", "!*.md"]);
        metadata.insert("include-patterns-encoded", "1".parse().expect("a value"));
        assert_eq!(values(&metadata, "include-patterns").expect("values"), ["src", "a bA", "!*.md"]);
        metadata.append("include-patterns", "%c3%A9%2B".parse().expect("a value"));
        assert_eq!(values(&metadata, "include-patterns").expect("values")[3], "é+");
        for broken in ["%", "%4", "%zz", "%ff"] {
            metadata.insert("dir-name", broken.parse().expect("a value"));
            assert_eq!(value(&metadata, "dir-name").expect("plain"), broken);
            metadata.insert("dir-name-encoded", "true".parse().expect("a value"));
            assert_eq!(value(&metadata, "dir-name").expect_err(broken).code(), tonic::Code::InvalidArgument);
            metadata.remove("dir-name-encoded");
        }
        assert_eq!(value(&metadata, "followpaths").expect("nothing"), "");
    }
}
