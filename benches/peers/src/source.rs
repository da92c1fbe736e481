//! Where the peers fetch from: no network, a value and a delay of our choosing, and a count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Config, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::{Record, SecretBuf, SecretResolver, Version};
use secret_vault::{SecretMetadata, SecretVaultRef, SecretVaultResult, SecretsSource};
use secret_vault_value::SecretValue;
use zeroize::Zeroizing;

/// A clone shares the count.
#[derive(Clone, Debug)]
pub struct Source {
    value: fn() -> Value,
    delay: Duration,
    fetches: Arc<AtomicUsize>,
}

/// What caches hold when they are not made for secrets: wiped when dropped, as a careful user would.
pub type Value = Zeroizing<Vec<u8>>;

/// 32 bytes, printable, since some peers hold text.
pub fn value_of_32_bytes() -> Value {
    Zeroizing::new(b"correct-horse-battery-staple-123".to_vec())
}

impl Source {
    /// Answers at once.
    pub fn new(value: fn() -> Value) -> Self {
        Self::slow(value, Duration::ZERO)
    }

    /// Answers after `delay`.
    pub fn slow(value: fn() -> Value, delay: Duration) -> Self {
        Self {
            value,
            delay,
            fetches: Arc::default(),
        }
    }

    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    pub async fn fetch(&self) -> Value {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        (self.value)()
    }

    /// An SDK client whose HTTP connector is this source.
    pub fn aws_client(&self) -> Client {
        let connector = SharedHttpConnector::new(self.clone());
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("id", "key", None, None, "bench"))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        Client::from_conf(config)
    }
}

impl SecretResolver for Source {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let value = SecretBuf::from_slice(&self.fetch().await)?;
            let field = request.name().field();
            let record = Record::builder("source")
                .field(field.unwrap_or_default(), value)
                .version(Version::number(1))
                .build()?;
            Ok(record.select(field))
        })
    }
}

#[async_trait]
impl SecretsSource for Source {
    fn name(&self) -> String {
        "source".to_owned()
    }

    async fn get_secrets(
        &self,
        references: &[SecretVaultRef],
    ) -> SecretVaultResult<HashMap<SecretVaultRef, secret_vault::Secret>> {
        let mut secrets = HashMap::new();
        let value = self.fetch().await;
        for reference in references {
            let metadata = SecretMetadata::create_from_ref(reference);
            let value = SecretValue::new(value.to_vec());
            secrets.insert(
                reference.clone(),
                secret_vault::Secret::new(value, metadata),
            );
        }
        Ok(secrets)
    }
}

impl HttpConnector for Source {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let source = self.clone();
        HttpConnectorFuture::new(async move {
            let body = request.body().bytes().unwrap_or_default();
            let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
            let name = asked["SecretId"].as_str().unwrap();
            let value = source.fetch().await;
            let value = std::str::from_utf8(&value).unwrap();
            // As the service answers; the name stands in the ARN with six more characters.
            let answer = format!(
                r#"{{"ARN":"arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}-AbCdEf","Name":"{name}","SecretString":"{value}","VersionId":"01234567-89ab-cdef-0123-456789abcdef","VersionStages":["AWSCURRENT"],"CreatedDate":1.7e9}}"#
            );
            let status = 200_u16.try_into().unwrap();
            Ok(HttpResponse::new(status, SdkBody::from(answer)))
        })
    }
}
