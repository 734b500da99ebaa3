//! The JSON-RPC front: what SDKs take for Bitcoin Core.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::request::OwnCall;
use super::{Error, Faucet, Result};

/// Largest request; a package of transactions is far below.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Where the front listens and whom it lets in. The default is what official SDKs expect of a local network.
#[derive(Clone)]
pub struct FrontConfig {
    /// Loopback, port 8332 by default; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The user that clients must give.
    pub user: String,
    /// The password that clients must give.
    pub password: String,
}

impl Default for FrontConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8332)),
            user: "testutil".into(),
            password: "testutilpassword".into(),
        }
    }
}

/// The running front. Dropping it stops it.
pub struct Front {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    faucet: Faucet,
    /// The `Authorization` header of whoever may come in.
    authorization: String,
}

impl Front {
    /// Listens; calls are answered when this returns.
    pub async fn start(faucet: Faucet, config: FrontConfig) -> Result<Self> {
        let cannot = |e: std::io::Error| Error::Listen {
            address: config.listen,
            reason: e.to_string(),
        };
        let listener = TcpListener::bind(config.listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let pair = STANDARD.encode(format!("{}:{}", config.user, config.password));
        let shared = Shared {
            faucet,
            authorization: format!("Basic {pair}"),
        };
        // Core answers at `/` and `/wallet/NAME` alike; without wallets they are the same.
        let app = Router::new()
            .fallback(any(answer))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(shared);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            if let Err(error) = served.await {
                tracing::error!(%error, "the JSON-RPC front ended");
            }
        });
        Ok(Self {
            address,
            stop: Some(stop),
            server: Some(server),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls and lets those under way end.
    pub async fn stop(mut self) {
        self.stop.take();
        if let Some(server) = self.server.take() {
            let _ = server.await;
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let given = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());
    if given != Some(shared.authorization.as_bytes()) {
        let error = failure(
            -1,
            "wrong user or password for the local network's node",
            Value::Null,
        );
        return respond(StatusCode::UNAUTHORIZED, &error);
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return respond(
            StatusCode::INTERNAL_SERVER_ERROR,
            &failure(-32700, "Parse error", Value::Null),
        );
    };
    let Value::Array(calls) = &request else {
        return single(&shared.faucet, &request, body).await;
    };
    if !calls.iter().any(|call| OwnCall::read(call).is_some()) {
        return forward(&shared.faucet, body, Value::Null).await;
    }
    // A batch with a call of ours in it is taken apart.
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        let answer = single(&shared.faucet, call, Bytes::from(call.to_string())).await;
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX)
            .await
            .unwrap_or_default();
        answers.push(serde_json::from_slice(&bytes).unwrap_or(Value::Null));
    }
    respond(StatusCode::OK, &Value::Array(answers))
}

async fn single(faucet: &Faucet, request: &Value, body: Bytes) -> Response {
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    let result = match OwnCall::read(request) {
        None => return forward(faucet, body, id).await,
        Some(Err(error)) => Err(error),
        Some(Ok(OwnCall::Send { script, amount })) => {
            faucet.send(script, amount).await.map(|txid| json!(txid))
        }
        Some(Ok(OwnCall::Generate { blocks })) => {
            faucet.mine(blocks).await.map(|hashes| json!(hashes))
        }
    };
    // Version 2 of the protocol puts errors into a successful HTTP answer; before, the status is 500.
    let version_2 = request.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    let (mut answer, status) = match result {
        Ok(result) => (
            json!({"result": result, "error": null, "id": id}),
            StatusCode::OK,
        ),
        Err(error) => {
            let status = if version_2 {
                StatusCode::OK
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            (failure(error.code(), &error.to_string(), id), status)
        }
    };
    if let (true, Some(fields)) = (version_2, answer.as_object_mut()) {
        fields.retain(|name, value| name == "id" || !value.is_null());
        fields.insert("jsonrpc".into(), json!("2.0"));
    }
    respond(status, &answer)
}

/// Passes a call to the node, byte for byte. Whatever comes back, the caller gets JSON.
async fn forward(faucet: &Faucet, body: Bytes, id: Value) -> Response {
    match faucet.rpc().forward(body.to_vec()).await {
        Ok((status, bytes)) if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
        }
        // No content: the answer to a notification.
        Ok((204, _)) => StatusCode::NO_CONTENT.into_response(),
        Ok((status, bytes)) => {
            let text = String::from_utf8_lossy(&bytes);
            let message = format!(
                "the node answered with HTTP status {status}: {}",
                text.trim()
            );
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            respond(status, &failure(-1, &message, id))
        }
        Err(error) => respond(
            StatusCode::BAD_GATEWAY,
            &failure(-1, &error.to_string(), id),
        ),
    }
}

fn failure(code: i64, message: &str, id: Value) -> Value {
    json!({"result": null, "error": {"code": code, "message": message}, "id": id})
}

fn respond(status: StatusCode, body: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}
