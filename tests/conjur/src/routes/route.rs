//! Which handler a method and a path lead to.

use crate::log::Kind;
use crate::state::known_kind;
use crate::switches::{Prefix, Switches};
use crate::url::{NotUtf8, Target, decode};

/// Where a request leads, with what its path says.
pub(super) enum Route {
    Root,
    Whoami,
    Authenticators,
    Login {
        account: String,
    },
    Authenticate {
        account: String,
        login: String,
    },
    Rotate {
        account: String,
    },
    Jwt(Service),
    Cert(Service),
    Status {
        authenticator: String,
        account: String,
    },
    Secret(Record),
    Write(Record),
    Batch,
    Saas,
    Resource(Record),
    Check(Record),
    Resources {
        account: Option<String>,
        kind: Option<String>,
    },
    Policy(Record),
    /// Nowhere, below a path where no token is needed.
    Open,
    /// Nowhere.
    Nowhere,
}

/// A record, as paths name it.
pub(super) struct Record {
    pub(super) account: String,
    pub(super) kind: String,
    pub(super) id: String,
}

impl Record {
    pub(super) fn full_id(&self) -> String {
        format!("{}:{}:{}", self.account, self.kind, self.id)
    }
}

/// A login service, and the login that the path may name.
pub(super) struct Service {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) login: Option<String>,
}

impl Route {
    pub(super) fn find(
        method: &str,
        target: &Target<'_>,
        switches: &Switches,
    ) -> Result<Self, NotUtf8> {
        let segments = match (target.segments.as_slice(), switches.prefix) {
            (["api", rest @ ..], Prefix::Accepted | Prefix::Required) => rest,
            (_, Prefix::Required) => return Ok(Self::Nowhere),
            (all, _) => all,
        };
        // Reading the query's parameters is a part of routing: what is not UTF-8 there is refused as it is in the path.
        target.check_query()?;
        let check = target.parameter("check")?;
        // HEAD is GET without the body.
        let method = if method == "HEAD" { "GET" } else { method };
        let text = |part: &str| decode(part);
        let service = |id: &str, account: &str, login: Option<&str>| {
            Ok(Service {
                id: decode(id)?,
                account: decode(account)?,
                login: login.map(decode).transpose()?,
            })
        };
        Ok(match (method, segments) {
            ("GET", []) => Self::Root,
            ("GET", ["whoami"]) => Self::Whoami,
            ("GET", ["authenticators"]) => Self::Authenticators,
            ("GET", ["authn", account, "login"]) => Self::Login {
                account: text(account)?,
            },
            ("POST", ["authn", account, login, "authenticate"]) => Self::Authenticate {
                account: text(account)?,
                login: text(login)?,
            },
            ("PUT", ["authn", account, "api_key"]) => Self::Rotate {
                account: text(account)?,
            },
            ("POST", ["authn-jwt", id, account, "authenticate"]) => {
                Self::Jwt(service(id, account, None)?)
            }
            ("POST", ["authn-jwt", id, account, login, "authenticate"]) => {
                Self::Jwt(service(id, account, Some(login))?)
            }
            ("POST", ["authn-cert", id, account, "authenticate"]) if switches.authn_cert => {
                Self::Cert(service(id, account, None)?)
            }
            ("POST", ["authn-cert", id, account, login, "authenticate"]) if switches.authn_cert => {
                Self::Cert(service(id, account, Some(login))?)
            }
            ("GET", [authenticator, id, account, "status"])
                if authenticator.starts_with("authn-") =>
            {
                Self::Status {
                    authenticator: format!("{}/{}", text(authenticator)?, text(id)?),
                    account: text(account)?,
                }
            }
            (_, ["authn", ..]) => Self::Open,
            (_, [first, .., "authenticate"]) if first.starts_with("authn-") => Self::Open,
            ("GET", ["secrets"]) => Self::Batch,
            ("POST", ["secrets", "values"] | ["secrets", _, "values"]) if switches.saas => {
                Self::Saas
            }
            ("GET", ["secrets", account, kind, id @ ..]) => {
                record(account, kind, id)?.map_or(Self::Nowhere, Self::Secret)
            }
            ("POST", ["secrets", account, kind, id @ ..]) => {
                record(account, kind, id)?.map_or(Self::Nowhere, Self::Write)
            }
            ("GET", ["resources", account, kind, id @ ..]) if !id.is_empty() => {
                let leads = if check.as_deref() == Some("true") {
                    Self::Check
                } else {
                    Self::Resource
                };
                record(account, kind, id)?.map_or(Self::Nowhere, leads)
            }
            ("GET", ["resources", rest @ ..]) => Self::Resources {
                account: rest.first().map(|part| decode(part)).transpose()?,
                kind: rest.get(1).map(|part| decode(part)).transpose()?,
            },
            ("POST" | "PUT" | "PATCH", ["policies", account, "policy", id @ ..]) => {
                record(account, "policy", id)?.map_or(Self::Nowhere, Self::Policy)
            }
            _ => Self::Nowhere,
        })
    }

    pub(super) fn needs_token(&self) -> bool {
        !matches!(
            self,
            Self::Root
                | Self::Authenticators
                | Self::Login { .. }
                | Self::Authenticate { .. }
                | Self::Rotate { .. }
                | Self::Jwt(_)
                | Self::Cert(_)
                | Self::Open
        )
    }

    /// Whether a follower refuses it.
    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Policy(_) | Self::Rotate { .. })
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Root => Kind::Root,
            Self::Whoami => Kind::Whoami,
            Self::Authenticators => Kind::Authenticators,
            Self::Login { .. } => Kind::Login,
            Self::Authenticate { .. } => Kind::Authenticate,
            Self::Rotate { .. } => Kind::Rotate,
            Self::Jwt(_) => Kind::AuthenticateJwt,
            Self::Cert(_) => Kind::AuthenticateCert,
            Self::Status { .. } => Kind::Status,
            Self::Secret(_) => Kind::Secret,
            Self::Write(_) => Kind::Write,
            Self::Batch => Kind::Batch,
            Self::Saas => Kind::SaasBatch,
            Self::Resource(_) => Kind::Resource,
            Self::Check(_) => Kind::Check,
            Self::Resources { .. } => Kind::Resources,
            Self::Policy(_) => Kind::Policy,
            Self::Open | Self::Nowhere => Kind::Other,
        }
    }
}

/// The record that a path names, if it is of a kind that there is. What remains of the path is its id, raw slashes and all.
fn record(account: &str, kind: &str, id: &[&str]) -> Result<Option<Record>, NotUtf8> {
    let (account, kind, id) = (decode(account)?, decode(kind)?, decode(&id.join("/"))?);
    let there = known_kind(&kind) && !id.is_empty();
    Ok(there.then_some(Record { account, kind, id }))
}
