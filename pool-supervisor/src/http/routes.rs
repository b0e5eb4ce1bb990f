//! The routes of the contract, and the small ones' answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::{Method, StatusCode, Uri};
use pool_protocol::control::{ControlRequest, ReadyReply};
use pool_protocol::id::check_project_id;
use pool_protocol::json;
use pool_protocol::task::InvalidTask;
use tokio::sync::Semaphore;

use super::body::Bodies;
use super::link::Link;
use super::reply::{self, Refusal, answer, json_text, reply_body, typed};
use super::{events, gate, tasks};

/// What handlers need. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) link: Link,
    pub(super) bodies: Bodies,
    /// Places for event streams, which hold a connection for as long as they like.
    pub(super) streams: Arc<Semaphore>,
    /// KiB of outcomes that replies to arrays of tasks may hold at once.
    pub(super) gathered: Arc<Semaphore>,
    pub(super) keepalive: Duration,
}

type Answer = Result<Response, Refusal>;

macro_rules! routes {
    ($($method:ident $path:literal => $handler:path,)*) => {
        /// Every route: its method and its path. `docs/http-api.md` has a section for each.
        pub const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path),)*];

        fn all() -> Router<Gateway> {
            Router::new()$(.route($path, $method($handler)))*
        }
    };
}

routes! {
    get "/api/process-pool/stats" => stats,
    post "/api/process-pool/project-limit" => set_limit,
    get "/api/process-pool/project-usage" => usage,
    post "/api/tasks" => tasks::submit,
    // A wildcard: an id such as `../x` is a bad id, not an unknown route.
    get "/api/tasks/{*id}" => tasks::show,
    delete "/api/tasks/{*id}" => tasks::cancel,
    get "/api/events" => events::stream,
    get "/healthz" => health,
    get "/readyz" => ready,
    get "/metrics" => metrics,
}

/// All routes behind the gate.
pub(super) fn router(gateway: Gateway, key: Arc<str>) -> Router {
    let routes =
        all().fallback(unknown).method_not_allowed_fallback(wrong_method).with_state(gateway);
    // The gate is not a layer of the routes themselves: what it refuses would get their `Allow`.
    Router::new().fallback_service(routes).layer(from_fn_with_state(key, gate::guard))
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {method}; see Allow", uri.path()),
    )
}

async fn stats(State(gateway): State<Gateway>) -> Answer {
    answer(gateway.link.ask(&ControlRequest::Stats).await?)
}

async fn usage(State(gateway): State<Gateway>) -> Answer {
    answer(gateway.link.ask(&ControlRequest::Projects).await?)
}

/// Alive is: the owner thread answers.
async fn health(State(gateway): State<Gateway>) -> Answer {
    reply_body(gateway.link.ask(&ControlRequest::Ready).await?)?;
    Ok(reply::json(StatusCode::OK, &serde_json::json!({"status": "ok"})))
}

async fn ready(State(gateway): State<Gateway>) -> Answer {
    let body = reply_body(gateway.link.ask(&ControlRequest::Ready).await?)?;
    let is_ready = serde_json::from_slice(&body).is_ok_and(|reply: ReadyReply| reply.ready);
    Ok(json_text(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body))
}

async fn metrics(State(gateway): State<Gateway>) -> Answer {
    let body = reply_body(gateway.link.ask(&ControlRequest::Metrics).await?)?;
    Ok(typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body))
}

#[derive(Debug)]
struct NewLimit {
    project_id: String,
    /// `null` lifts what was set.
    limit: Option<u32>,
}

async fn set_limit(State(gateway): State<Gateway>, request: Request) -> Answer {
    let body = gateway.bodies.read(request).await?;
    let NewLimit { project_id, limit } = read_limit(&body.bytes)?;
    let project = &*project_id;
    let request = match limit {
        Some(limit) => ControlRequest::SetLimit { project, limit },
        None => ControlRequest::LiftLimit { project },
    };
    answer(gateway.link.ask(&request).await?)
}

/// Read by the rules for tasks. `limit` has to be there: leaving it out is a mistake.
fn read_limit(body: &[u8]) -> Result<NewLimit, Refusal> {
    let wrong = |field: &str, problem: String| {
        let said = match field {
            "" => format!("the body {problem}"),
            _ => InvalidTask::new(field, problem).to_string(),
        };
        Refusal::bad_request(format!("{said}; send {{\"projectId\": \"a-project\", \"limit\": 5}}"))
    };
    let sound = json::read(body, json::MAX_DEPTH)
        .map_err(|unsound| wrong(&unsound.path, unsound.problem))?;
    let value = sound.value;
    let fields = sound.fields().ok_or_else(|| wrong("", value.not_a("a JSON object")))?;
    let (mut project_id, mut limit) = (None, None);
    for (name, value) in fields {
        let field = &*name;
        match field {
            "projectId" => {
                let text = value.text().map_err(|problem| wrong(field, problem))?;
                check_project_id(&text).map_err(|problem| wrong(field, problem.to_string()))?;
                project_id = Some(text.into_owned());
            }
            "limit" if value.is_null() => limit = Some(None),
            "limit" => limit = Some(Some(value.whole().map_err(|problem| wrong(field, problem))?)),
            _ => return Err(wrong(field, "is not known".to_owned())),
        }
    }
    let missing = |field| wrong(field, "is missing".to_owned());
    let project_id = project_id.ok_or_else(|| missing("projectId"))?;
    Ok(NewLimit { project_id, limit: limit.ok_or_else(|| missing("limit"))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_limit_is_refused_naming_the_field() {
        assert_eq!(read_limit(br#"{"projectId":"a","limit":0}"#).map(|new| new.limit), Ok(Some(0)));
        for (body, field) in [
            ("", "JSON"),
            ("[]", "send {"),
            (r#"{"limit":1}"#, "`projectId`"),
            (r#"{"projectId":"a"}"#, "`limit`"),
            (r#"{"projectId":1,"limit":1}"#, "`projectId`"),
            (r#"{"projectId":"a b","limit":1}"#, "`projectId`"),
            (r#"{"projectId":"","limit":1}"#, "`projectId`"),
            (r#"{"projectId":"a","limit":-1}"#, "`limit`"),
            (r#"{"projectId":"a","limit":1.5}"#, "`limit`"),
            (r#"{"projectId":"a","limit":"5"}"#, "`limit`"),
            (r#"{"projectId":"a","limit":4294967296}"#, "`limit`"),
            (r#"{"projectId":"a","limit":1,"limit":2}"#, "`limit` is given twice"),
            (r#"{"projectId":"a","limit":1,"Limit":2}"#, "`Limit`"),
        ] {
            let refusal =
                read_limit(body.as_bytes()).err().unwrap_or_else(|| panic!("{body} was accepted"));
            assert!(refusal.error.contains(field), "{body}: {}", refusal.error);
            assert!(
                refusal.error.matches(field).count() == 1,
                "{body} names it twice: {}",
                refusal.error
            );
        }
    }
}
