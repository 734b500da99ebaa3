//! HTTP, JSON and Core's way of saying no.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use super::{Auth, RpcConfig, code};
use crate::error::{Error, Result};

/// A client of one Bitcoin Core node. Clones share connections.
#[derive(Clone)]
pub struct Rpc {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    config: RpcConfig,
    /// The `Authorization` value in use; a cookie changes when the node restarts.
    authorization: Mutex<Option<String>>,
    version: OnceCell<u64>,
}

impl std::fmt::Debug for Rpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rpc")
            .field("url", &self.inner.config.url)
            .finish_non_exhaustive()
    }
}

impl Rpc {
    /// A client; nothing is sent yet. Fails only if the HTTP client cannot be set up.
    pub fn new(config: RpcConfig) -> Result<Self> {
        let http = reqwest::Client::builder()
            // The node is ours; a proxy meant for the web must not see its password.
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|e| Error::Unreachable {
                url: config.url.clone(),
                method: "(setting up)".into(),
                reason: e.to_string(),
            })?;
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                config,
                authorization: Mutex::new(None),
                version: OnceCell::new(),
            }),
        })
    }

    /// The node's address, without credentials.
    pub fn url(&self) -> &str {
        &self.inner.config.url
    }

    /// One call; the result is read as `T`.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T> {
        self.call_within(method, params, self.inner.config.timeout)
            .await
    }

    /// One call with a time limit of its own (long polls).
    pub async fn call_within<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<T> {
        let body = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params});
        let answer = self.post(method, &body, limit).await?;
        read_result(method, answer)
    }

    /// The same method many times in one HTTP request; results in the order of `params`. Each may fail by
    /// itself; the outer error is for the request as a whole.
    pub async fn batch<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Result<T>>> {
        let calls = params.into_iter().map(|p| (method, p)).collect::<Vec<_>>();
        let answers = self.batch_values(&calls).await?;
        Ok(answers
            .into_iter()
            .map(|answer| answer.and_then(|value| parse(method, value)))
            .collect())
    }

    /// Different methods in one HTTP request; raw results in the order of `calls`.
    pub async fn batch_values(&self, calls: &[(&str, Value)]) -> Result<Vec<Result<Value>>> {
        let Some((first, _)) = calls.first() else {
            return Ok(Vec::new());
        };
        let body = Value::Array(
            calls
                .iter()
                .enumerate()
                .map(|(id, (method, params))| json!({"jsonrpc": "1.0", "id": id, "method": method, "params": params}))
                .collect(),
        );
        let answer = self.post(first, &body, self.inner.config.timeout).await?;
        let Value::Array(answers) = answer else {
            // The whole request was refused, for example while the node starts.
            return Err(match read_result::<Value>(first, answer) {
                Err(error) => error,
                Ok(_) => wrong_answer(first, "a batch was answered with a single result"),
            });
        };
        // Core answers in order, but the standard does not promise it: sort by id.
        let mut slots = calls.iter().map(|_| None).collect::<Vec<Option<Value>>>();
        for answer in answers {
            let id = answer
                .get("id")
                .and_then(Value::as_u64)
                .and_then(|id| usize::try_from(id).ok());
            if let Some(slot) = id.and_then(|id| slots.get_mut(id)) {
                *slot = Some(answer);
            }
        }
        Ok(slots
            .into_iter()
            .zip(calls)
            .map(|(answer, (method, _))| match answer {
                Some(answer) => read_value(method, answer),
                None => Err(wrong_answer(method, "a call of a batch was not answered")),
            })
            .collect())
    }

    /// The node's version as `getnetworkinfo` counts, asked once.
    pub async fn version(&self) -> Result<u64> {
        self.inner
            .version
            .get_or_try_init(|| async {
                let info: super::types::NetworkInfo =
                    self.call("getnetworkinfo", json!([])).await?;
                Ok(info.version)
            })
            .await
            .copied()
    }

    /// Hands a request's body to the node as it is, without a time limit, and gives back status and body as
    /// they are. For proxies.
    pub async fn forward(&self, body: Vec<u8>) -> Result<(u16, Vec<u8>)> {
        let response = self
            .inner
            .http
            .post(&self.inner.config.url)
            .header(AUTHORIZATION, self.authorization(false).await?)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(|e| self.unreachable("(a forwarded call)", &e))?;
        let status = response.status().as_u16();
        let bytes = response
            .bytes()
            .await
            .map_err(|e| self.unreachable("(a forwarded call)", &e))?;
        Ok((status, bytes.to_vec()))
    }

    async fn post(&self, method: &str, body: &Value, limit: Duration) -> Result<Value> {
        let started = Instant::now();
        let result = self.post_inner(method, body, limit).await;
        metrics::histogram!("tinderbox_chain_rpc_seconds", "method" => method.to_owned())
            .record(started.elapsed().as_secs_f64());
        if result.is_err() {
            metrics::counter!("tinderbox_chain_rpc_failures_total", "method" => method.to_owned())
                .increment(1);
        }
        result
    }

    async fn post_inner(&self, method: &str, body: &Value, limit: Duration) -> Result<Value> {
        for attempt in 0..2 {
            let authorization = self.authorization(attempt > 0).await?;
            let response = self
                .inner
                .http
                .post(&self.inner.config.url)
                .header(AUTHORIZATION, authorization)
                .timeout(limit)
                .json(body)
                .send()
                .await
                .map_err(|e| self.unreachable(method, &e))?;
            let status = response.status();
            // A restarted node has written a new cookie: read it and try once more.
            if status == StatusCode::UNAUTHORIZED {
                if attempt == 0 && matches!(self.inner.config.auth, Auth::CookieFile(_)) {
                    continue;
                }
                break;
            }
            let bytes = response
                .bytes()
                .await
                .map_err(|e| self.unreachable(method, &e))?;
            if status == StatusCode::SERVICE_UNAVAILABLE {
                return Err(Error::Busy);
            }
            // Core sends errors as JSON bodies with status 500 or 404.
            return serde_json::from_slice(&bytes).map_err(|_| {
                wrong_answer(method, &format!("HTTP status {status} without a JSON body"))
            });
        }
        Err(Error::Unauthorized {
            url: self.inner.config.url.clone(),
        })
    }

    async fn authorization(&self, renew: bool) -> Result<String> {
        let mut known = self.inner.authorization.lock().await;
        if let (Some(value), false) = (&*known, renew) {
            return Ok(value.clone());
        }
        let pair = match &self.inner.config.auth {
            Auth::UserPassword { user, password } => format!("{user}:{password}"),
            Auth::CookieFile(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|e| Error::Cookie {
                    path: path.clone(),
                    reason: e.to_string(),
                })?
                .trim()
                .to_owned(),
        };
        let value = format!("Basic {}", STANDARD.encode(pair));
        *known = Some(value.clone());
        Ok(value)
    }

    fn unreachable(&self, method: &str, error: &reqwest::Error) -> Error {
        // reqwest's own text hides the cause; the innermost one says it best.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let reason = if error.is_timeout() {
            "it took too long".into()
        } else {
            cause.to_string()
        };
        Error::Unreachable {
            url: self.inner.config.url.clone(),
            method: method.to_owned(),
            reason,
        }
    }
}

fn wrong_answer(method: &str, reason: &str) -> Error {
    Error::Answer {
        method: method.to_owned(),
        reason: reason.to_owned(),
    }
}

pub(super) fn parse<T: DeserializeOwned>(method: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| wrong_answer(method, &e.to_string()))
}

fn read_result<T: DeserializeOwned>(method: &str, answer: Value) -> Result<T> {
    parse(method, read_value(method, answer)?)
}

fn read_value(method: &str, mut answer: Value) -> Result<Value> {
    match answer.get("error") {
        None | Some(Value::Null) => {}
        Some(error) => {
            let message = error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("no message")
                .to_owned();
            return Err(
                match error.get("code").and_then(Value::as_i64).unwrap_or(0) {
                    code::WARMING_UP => Error::WarmingUp { message },
                    code => Error::Rpc {
                        method: method.to_owned(),
                        code,
                        message,
                    },
                },
            );
        }
    }
    match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(wrong_answer(method, "neither a result nor an error")),
    }
}
