use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How to prove to Bitcoin Core who we are. No `Debug`: it holds a password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `rpcuser` and `rpcpassword`, or an `rpcauth` pair.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// The `.cookie` file that Core writes at each start; read anew when Core refuses.
    CookieFile(PathBuf),
}

/// Where Bitcoin Core is and how to talk to it.
#[derive(Clone)]
pub struct RpcConfig {
    /// For example `http://127.0.0.1:8332`.
    pub url: String,
    /// Credentials.
    pub auth: Auth,
    /// Limit of one request, long polls apart.
    pub timeout: Duration,
}

impl RpcConfig {
    /// A node reached with user and password, one minute per request.
    pub fn with_password(
        url: impl Into<String>,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        Self {
            url: url.into(),
            auth: Auth::UserPassword {
                user: user.into(),
                password: password.into(),
            },
            timeout: Duration::from_secs(60),
        }
    }

    /// A node reached with its cookie file, one minute per request.
    pub fn with_cookie(url: impl Into<String>, cookie: impl Into<PathBuf>) -> Self {
        Self {
            url: url.into(),
            auth: Auth::CookieFile(cookie.into()),
            timeout: Duration::from_secs(60),
        }
    }
}
