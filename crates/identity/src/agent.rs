//! A connection to the agent, each of them checked by the guard.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use secret_resolver::{Error, ErrorKind};
use spiffe::WorkloadApiClient;
use spiffe::transport::Endpoint;
use tonic::transport::Uri;
use tower::service_fn;

use crate::error;
use crate::guard::Guard;

/// How often an agent that says nothing is asked whether it is there, and how long it may take. A server by Go's gRPC, as SPIRE's agent is
/// one, closes a connection on which it is asked more often than every five minutes.
const STILL_THERE: Duration = Duration::from_secs(360);
const PATIENCE: Duration = Duration::from_secs(10);
/// The bound on a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// # Errors
/// As [`Guard::connect`].
pub(crate) async fn connect(guard: &Guard) -> Result<WorkloadApiClient, Error> {
    // What the guard says is lost in the error of the layers between.
    let said = Arc::new(Mutex::new(None));
    let connector = {
        let (guard, said) = (guard.clone(), Arc::clone(&said));
        service_fn(move |_: Uri| {
            let (guard, said) = (guard.clone(), Arc::clone(&said));
            async move {
                guard.connect().await.map(TokioIo::new).map_err(|error| {
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    io::Error::other("not let through")
                })
            }
        })
    };
    // The address goes nowhere: the connector has its own.
    let channel = tonic::transport::Endpoint::from_static("http://agent")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(STILL_THERE)
        .keep_alive_timeout(PATIENCE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await;
    let channel = channel.map_err(|_| {
        let said = said.lock().unwrap_or_else(PoisonError::into_inner).take();
        said.unwrap_or_else(|| {
            error::new(
                ErrorKind::Unavailable,
                "what listens at the agent's socket does not speak gRPC",
            )
        })
    })?;
    Ok(WorkloadApiClient::new_with_channel(
        Endpoint::Unix(guard.socket().to_owned()),
        channel,
    ))
}
