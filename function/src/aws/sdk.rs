//! The AWS SDK, on this process's own HTTP client and TLS configuration.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
    meta::region::ProvideRegion,
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;

use crate::net::connection;

/// Region, credentials and endpoints from the environment, as Lambda sets them.
///
/// A call is tried up to 3 times within 4 s, each attempt within 2 s. A regional AWS endpoint answers in milliseconds.
/// Lambda gives a cold start 10 s, and API Gateway counts it into its 30 s, of which a request may take 25.
///
/// # Errors
/// If the HTTP client cannot be built.
pub async fn config(tls: &rustls::ClientConfig) -> Result<SdkConfig, reqwest::Error> {
    // Calls are minutes apart, by which time a pooled connection may be dead: each gets a new one.
    let client = connection::builder(tls).pool_max_idle_per_host(0).build()?;
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(2))
        .operation_timeout(Duration::from_secs(4))
        .build();
    let retries = RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(200));
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(SharedHttpClient::new(ReqwestConnector(client)))
        .timeout_config(timeouts)
        .retry_config(retries);
    // Lambda gives region and credentials in the environment, where the SDK's provider chains look first too. Building
    // the chains, with clients of services that are then not called, takes 0.75 of the 8.6 million instructions of a cold
    // start.
    let environment = EnvironmentVariableCredentialsProvider::new();
    let loader = match environment.provide_credentials().await {
        Ok(_) => loader.credentials_provider(environment),
        Err(_) => loader,
    };
    let loader = match EnvironmentVariableRegionProvider::new().region().await {
        Some(region) => loader.region(region),
        None => loader,
    };
    Ok(loader.load().await)
}

#[derive(Clone, Debug)]
struct ReqwestConnector(reqwest::Client);

impl HttpClient for ReqwestConnector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for ReqwestConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request = request.map(|body| body.bytes().map(<[u8]>::to_vec).unwrap_or_default());
            let request = request.try_into().map_err(|error: reqwest::Error| ConnectorError::user(error.into()))?;
            let response = client.execute(request).await.map_err(failed)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await.map_err(failed)?;
            let status =
                StatusCode::try_from(status.as_u16()).map_err(|error| ConnectorError::other(error.into(), None))?;
            let mut answer = HttpResponse::new(status, SdkBody::from(body));
            for (name, value) in &headers {
                if let Ok(value) = value.to_str() {
                    answer.headers_mut().append(name.as_str().to_owned(), value.to_owned());
                }
            }
            Ok(answer)
        })
    }
}

fn failed(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}
